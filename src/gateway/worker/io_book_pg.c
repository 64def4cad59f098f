/*
 * io_book_pg.c
 *	  Routes and tokens read into memory, as the extension's owner.
 *
 * A book lies in a context of its own, and lives as long as a request refers to it.  What must outlive it, how
 * many requests of a route are running, is in TopMemoryContext by the route's number.  Locks: those of reading, within
 * a transaction, for which is waited only shortly.
 */
#include "postgres.h"

#include "gateway/worker/io_pg.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/failpoint.h"
#include "core/process_pg.h"
#include "core/spi_pg.h"

static gwi_route_state *states;
static List *old = NIL;			/* books that were current */

/* Routes of the listeners of one pipeline come first, so that of equal patterns theirs wins. */
static const char routes_query[] =
"SELECT r.route_id, r.pipeline, r.prefix, r.method, r.path, r.function, r.poll_function, r.role, o.oid, r.scope, r.body, r.open, r.read_only,"
"       r.max_body, r.timeout_ms, r.concurrency, r.per_minute, r.interval_ms, r.builtin"
"  FROM millrace.routes r LEFT JOIN pg_catalog.pg_roles o ON o.rolname = r.role ORDER BY r.builtin, r.route_id";

static const char tokens_query[] =
"SELECT t.token_id, t.token_sha256, t.role, o.oid, t.scopes, t.per_minute, t.expires_at"
"  FROM millrace.api_tokens t JOIN pg_catalog.pg_roles o ON o.rolname = t.role"
" WHERE t.revoked_at IS NULL AND NOT o.rolsuper AND (t.expires_at IS NULL OR t.expires_at > pg_catalog.now())";

static const char role_query[] = "SELECT o.oid FROM pg_catalog.pg_roles o WHERE o.rolname = $1 AND NOT o.rolsuper";

/* Rows of a query; what is allocated goes to the book again, not to SPI's context. */
static int
query(const gwi_book *book, const char *sql)
{
	SPI_execute(sql, true, 0);
	MemoryContextSwitchTo(book->context);
	return (int) SPI_processed;
}

/* ---- values of the current rows; texts are copied into the current context */

static Datum
value(int row, int column, bool *null)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, null);
}

static char *
text_at(int row, int column)
{
	bool		null;
	Datum		d = value(row, column, &null);

	return null ? NULL : TextDatumGetCString(d);
}

static int64
int_at(int row, int column, int64 otherwise)
{
	bool		null;
	Datum		d = value(row, column, &null);

	if (null)
		return otherwise;
	return SPI_gettypeid(SPI_tuptable->tupdesc, column) == INT8OID ? DatumGetInt64(d) : DatumGetInt32(d);
}

static Oid
oid_at(int row, int column)
{
	bool		null;
	Datum		d = value(row, column, &null);

	return null ? InvalidOid : DatumGetObjectId(d);
}

static bool
bool_at(int row, int column)
{
	bool		null;
	Datum		d = value(row, column, &null);

	return !null && DatumGetBool(d);
}

/* Elements of a text[]; -1: null. */
static int
texts_at(int row, int column, const char ***out)
{
	bool		null;
	Datum		d = value(row, column, &null);
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	*out = NULL;
	if (null)
		return -1;
	deconstruct_array(DatumGetArrayTypeP(d), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	*out = palloc(sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
		(*out)[i] = nulls[i] ? "" : TextDatumGetCString(elements[i]);
	return n;
}

/* ---- routes */

static gwi_route_state *
state_of(int64 id)
{
	gwi_route_state *s;

	for (s = states; s; s = s->next)
		if (s->id == id)
			return s;
	s = MemoryContextAllocZero(TopMemoryContext, sizeof(*s));
	s->id = id;
	s->next = states;
	states = s;
	return s;
}

static unsigned
media_of(int row, int column)
{
	static const char *const names[] = {"json", "form", "multipart", "raw"};
	static const gw_media media[] = {GW_MEDIA_JSON, GW_MEDIA_FORM, GW_MEDIA_MULTIPART, GW_MEDIA_OTHER};
	const char **texts;
	int			n = texts_at(row, column, &texts);
	unsigned	bits = 0;

	for (int i = 0; i < n; i++)
		for (int m = 0; m < (int) lengthof(names); m++)
			if (strcmp(texts[i], names[m]) == 0)
				bits |= GWI_MEDIA(media[m]);
	return bits;
}

/* Number of a role that routes want, in needs. */
static int
need_of(Oid role, Oid *needs, int *n)
{
	for (int i = 0; i < *n; i++)
		if (needs[i] == role)
			return i;
	needs[*n] = role;
	return (*n)++;
}

static void
read_routes(gwi_book *book, Oid **needs, int *n_needs)
{
	int			n = query(book, routes_query);

	book->routes = n;
	book->route = palloc0(sizeof(gwi_route) * Max(n, 1));
	*needs = palloc(sizeof(Oid) * Max(n, 1));
	*n_needs = 0;
	for (int l = 0; l < gwi_set.listens; l++)
		book->pattern[l] = palloc(sizeof(gw_pattern) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		gwi_route  *r = &book->route[i];
		char	   *pipeline = text_at(i, 2);
		char	   *path = text_at(i, 5);
		char	   *full = psprintf("%s%s", text_at(i, 3), path);
		gw_method	method = gw_method_named(text_at(i, 4));

		r->id = int_at(i, 1, 0);
		r->label = full;
		r->function = text_at(i, 6);
		r->poll_function = text_at(i, 7);
		r->need = text_at(i, 8) ? need_of(oid_at(i, 9), *needs, n_needs) : -1;
		r->scope = text_at(i, 10);
		r->media = media_of(i, 11);
		r->open = bool_at(i, 12);
		r->read_only = bool_at(i, 13);
		r->max_body = int_at(i, 14, gwi_set.max_body);
		r->timeout_ms = (int) int_at(i, 15, gwi_set.timeout_ms);
		r->concurrency = (int) int_at(i, 16, 0);
		r->per_minute = (int) int_at(i, 17, 0);
		r->interval_ms = (int) int_at(i, 18, 0);
		r->state = state_of(r->id);
		for (int l = 0; l < gwi_set.listens; l++)
		{
			const char *only = gwi_set.listen[l].pipeline;
			gw_pattern *p = &book->pattern[l][book->patterns[l]];
			bool		bare = *only && pipeline && strcmp(pipeline, only) == 0;

			if ((*only == '\0' || bare || bool_at(i, 19)) && gw_pattern_parse(bare ? path : full, p))
			{
				p->method = method;
				p->route = r;
				book->patterns[l]++;
			}
		}
	}
}

/* ---- tokens */

/* What such a role's requests may do. */
static void
fill_who(gwi_who *who, Oid role, const Oid *needs, int n_needs)
{
	bool	   *member = palloc(Max(n_needs, 1));

	for (int i = 0; i < n_needs; i++)
		member[i] = OidIsValid(role) && OidIsValid(needs[i]) && has_privs_of_role(role, needs[i]);
	who->role = role;
	who->member = member;
	who->expires_s = PG_INT64_MAX;
	who->n_scopes = -1;
}

static void
read_tokens(gwi_book *book, const Oid *needs, int n_needs)
{
	int			n = query(book, tokens_query);

	for (book->whos = 16; book->whos < 2 * n; book->whos *= 2)
		;
	book->who = palloc0(sizeof(gwi_who *) * book->whos);
	for (int i = 0; i < n; i++)
	{
		gwi_who    *who = palloc0(sizeof(gwi_who));
		bool		null;
		bytea	   *hash = DatumGetByteaPP(value(i, 2, &null));
		Datum		expires;
		unsigned	at;

		fill_who(who, oid_at(i, 4), needs, n_needs);
		who->id = int_at(i, 1, 0);
		memcpy(who->sha256, VARDATA_ANY(hash), 32);
		who->role_name = text_at(i, 3);
		who->n_scopes = texts_at(i, 5, &who->scopes);
		who->per_minute = (int) int_at(i, 6, 0);
		expires = value(i, 7, &null);
		if (!null && !TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(expires)))
			who->expires_s = timestamptz_to_time_t(DatumGetTimestampTz(expires));
		memcpy(&at, who->sha256, sizeof(at));
		while (book->who[at & (unsigned) (book->whos - 1)])
			at++;
		book->who[at & (unsigned) (book->whos - 1)] = who;
	}
}

/* Requests without a token: of the anonymous role, or, where a route is open, of ours. */
static void
read_anonymous(gwi_book *book, const Oid *needs, int n_needs)
{
	const char *name = GetConfigOption("millrace.http_anonymous", true, false);
	Oid			type = TEXTOID;
	Oid			role = InvalidOid;

	if (name && *name)
	{
		Datum		arg = CStringGetTextDatum(name);

		SPI_execute_with_args(role_query, 1, &type, &arg, NULL, true, 1);
		MemoryContextSwitchTo(book->context);
		if (SPI_processed == 1)
			role = oid_at(0, 1);
		mr_worker_state("running", OidIsValid(role) ? NULL : psprintf("millrace.http_anonymous: role \"%s\" does not exist or is a superuser", name));
	}
	fill_who(&book->anonymous, role, needs, n_needs);
	fill_who(&book->open, OidIsValid(role) ? role : GetSessionUserId(), needs, n_needs);
}

bool
gwi_book_read(void)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext cxt = AllocSetContextCreate(caller, "millrace routes", ALLOCSET_DEFAULT_SIZES);
	gwi_book   *book;
	mr_owner_save save;
	Oid		   *needs;
	int			n_needs;

	if (!mr_try_begin("routes"))
		return false;
	mr_spi_begin(&save);
	(void) set_config_option("lock_timeout", "200ms", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	MemoryContextSwitchTo(cxt);
	book = palloc0(sizeof(gwi_book));
	book->context = cxt;
	read_routes(book, &needs, &n_needs);
	MR_FAILPOINT("gateway.book");
	read_tokens(book, needs, n_needs);
	read_anonymous(book, needs, n_needs);
	mr_spi_end(&save);
	mr_commit();
	/* from here on nothing fails */
	MemoryContextSetParent(cxt, TopMemoryContext);
	if (gwi_current)
	{
		MemoryContextSwitchTo(TopMemoryContext);
		old = lappend(old, gwi_current);
		gwi_current->refs--;
	}
	book->refs = 1;
	gwi_current = book;
	MemoryContextSwitchTo(caller);
	gwi_books_forget();
	return true;
}

void
gwi_books_forget(void)
{
	ListCell   *cell;

	foreach(cell, old)
	{
		gwi_book   *book = lfirst(cell);

		if (book->refs == 0)
		{
			old = foreach_delete_current(old, cell);
			MemoryContextDelete(book->context);
		}
	}
}

const gwi_route *
gwi_book_route(const gwi_book *book, int64 id)
{
	for (int i = 0; i < book->routes; i++)
		if (book->route[i].id == id)
			return &book->route[i];
	return NULL;
}
