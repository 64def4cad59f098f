/*
 * exec_reply_pg.c
 *	  An answer that a function wrote itself: millrace.http_response.
 *
 * Status, media type and headers are checked here, for the I/O worker sends them as they are.
 * A wrong one is the function's fault: 500, and the log says what; but a header's value that cannot be
 * sent is most likely what the client said: 400.
 *
 * Memory: the current context.
 */
#include "postgres.h"

#include "gateway/worker/exec_int.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#define MAX_POLL_MS (24 * 3600 * 1000)

static void
refuse(const char *what, const char *value)
{
	ereport(ERROR,
			(errcode(ERRCODE_E_R_I_E_INVALID_SQLSTATE_RETURNED),
			 errmsg("the function's response has a wrong %s: \"%s\"", what, value)));
}

/* Visible characters and spaces of ASCII. */
static bool
is_plain(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (text[i] < ' ' || text[i] > '~')
			return false;
	return true;
}

static bool
is_token(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char) text[i]) && (text[i] == '\0' || strchr("!#$%&'*+-.^_`|~", text[i]) == NULL))
			return false;
	return len > 0;
}

/* Those of the connection, and what the gateway writes itself. */
static bool
is_ours(const char *name)
{
	static const char *const ours[] = {
		"connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer",
		"transfer-encoding", "upgrade", "content-length", "content-type", "date", "server"
	};

	for (int i = 0; i < (int) lengthof(ours); i++)
		if (pg_strcasecmp(name, ours[i]) == 0)
			return true;
	return strncmp(name, "access-control-", 15) == 0;
}

static void
append_header(StringInfo lines, const char *name, JsonbValue *v)
{
	const char *value;
	size_t		len;

	if (v->type == jbvNull)
		return;
	if (v->type == jbvString)
	{
		value = pnstrdup(v->val.string.val, v->val.string.len);
		len = v->val.string.len;
	}
	else if (v->type == jbvNumeric)
	{
		value = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v->val.numeric)));
		len = strlen(value);
	}
	else if (v->type == jbvBool)
	{
		value = v->val.boolean ? "true" : "false";
		len = strlen(value);
	}
	else
	{
		refuse("header", name);
		return;					/* not reached */
	}
	/* most likely the client's own words */
	if (!is_plain(value, len) || strlen(value) != len)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("header \"%s\" of the response would have a value that is no ASCII text of one line", name)));
	appendStringInfo(lines, "%s: %s\n", name, value);
}

/* {"Name": "value", "Name": ["value", …]} as lines. */
static char *
read_headers(Jsonb *headers)
{
	StringInfoData lines;
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken token;
	char	   *name = NULL;
	int			depth = 0;

	if (!JB_ROOT_IS_OBJECT(headers))
		refuse("set of headers", "not an object");
	initStringInfo(&lines);
	it = JsonbIteratorInit(&headers->root);
	while ((token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
	{
		switch (token)
		{
			case WJB_KEY:
				if (depth != 1)
					refuse("header", name);
				name = pnstrdup(v.val.string.val, v.val.string.len);
				if (!is_token(v.val.string.val, v.val.string.len) || is_ours(name))
					refuse("header", name);
				break;
			case WJB_VALUE:
			case WJB_ELEM:
				append_header(&lines, name, &v);
				break;
			case WJB_BEGIN_OBJECT:
			case WJB_BEGIN_ARRAY:
				if (++depth > 2)
					refuse("header", name);
				break;
			default:
				depth--;
		}
	}
	return lines.len > 0 ? lines.data : NULL;
}

/* A whole number of an object; `otherwise` if it has none. */
static int
member_ms(Jsonb *object, const char *name, int otherwise)
{
	JsonbValue	v;
	JsonbValue *found = getKeyJsonValueFromContainer(&object->root, name, strlen(name), &v);
	int64		ms;

	if (found == NULL || found->type != jbvNumeric)
		return otherwise;
	ms = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(found->val.numeric)));
	if (ms < 1 || ms > MAX_POLL_MS)
		refuse("time to wait", name);
	return (int) ms;
}

/* {"poll": …, "within_ms", "every_ms"}: what millrace.respond_later() writes. */
static void
read_poll(Jsonb *later, gw_answer *a)
{
	JsonbValue	v;
	JsonbValue *poll;
	Jsonb	   *document;
	size_t		len;

	if (!JB_ROOT_IS_OBJECT(later))
		refuse("poll", "not an object");
	poll = getKeyJsonValueFromContainer(&later->root, "poll", 4, &v);
	if (poll == NULL || poll->type == jbvNull)
		return;
	document = JsonbValueToJsonb(poll);
	a->poll = JsonbToCString(NULL, &document->root, VARSIZE(document));
	len = strlen(a->poll);
	a->poll = gw_to_client(a->poll, &len);
	a->within_ms = member_ms(later, "within_ms", 10000);
	a->again_ms = member_ms(later, "every_ms", 50);
}

void
gw_read_response(gw_turn *turn, Datum response, gw_answer *a)
{
	HeapTupleHeader row = DatumGetHeapTupleHeader(response);
	bool		null;
	Datum		d = GetAttributeByName(row, "status", &null);

	a->status = null ? 200 : DatumGetInt32(d);
	if (a->status < 200 || a->status > 599)
		refuse("status", psprintf("%d", a->status));
	d = GetAttributeByName(row, "body", &null);
	if (!null)
	{
		bytea	   *body;

		gw_check_size(turn, toast_raw_datum_size(d) - VARHDRSZ);
		/* the row may be gone when this is sent */
		body = DatumGetByteaPCopy(d);
		a->body = VARDATA_ANY(body);
		a->len = VARSIZE_ANY_EXHDR(body);
		a->type = gw_sniff((const unsigned char *) a->body, a->len);
	}
	d = GetAttributeByName(row, "content_type", &null);
	if (!null && a->body)
	{
		a->type = TextDatumGetCString(d);
		if (!is_plain(a->type, strlen(a->type)) || strchr(a->type, '/') == NULL)
			refuse("media type", a->type);
	}
	d = GetAttributeByName(row, "headers", &null);
	if (!null)
		a->headers = read_headers(DatumGetJsonbPCopy(d));
	d = GetAttributeByName(row, "poll", &null);
	if (!null)
		read_poll(DatumGetJsonbPCopy(d), a);
}
