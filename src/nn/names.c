/*
 * names.c
 *	  Names of classes in an ONNX file's metadata, as Ultralytics writes them.
 *
 * metadata_props has a pair "names", whose value is Python's text of a dict,
 * {0: 'person', 1: "driver's licence"}, or of a list.  Nothing here fails but for
 * want of memory: what cannot be read, or does not count from 0, has no names.
 */
#include <string.h>

#include "nn/nn.h"
#include "nn/onnx.h"
#include "nn/protobuf.h"

#define MAX_NAMES 100000

/* The value of a key in metadata_props (field 14 of ModelProto, of StringStringEntryProto). */
static pb_bytes
metadata(const uint8_t *onnx, size_t len, const char *key)
{
	pb_reader	model = pb_open((pb_bytes) {onnx, len});
	pb_field	f;

	while (pb_next(&model, &f))
	{
		pb_reader	pair;
		pb_bytes	name = {NULL, 0},
					value = {NULL, 0};

		if (f.number != 14 || f.wire != pb_length)
			continue;
		pair = pb_open(f.bytes);
		while (pb_next(&pair, &f))
			if (f.wire == pb_length && f.number == 1)
				name = f.bytes;
			else if (f.wire == pb_length && f.number == 2)
				value = f.bytes;
		if (!pair.bad && name.len == strlen(key) && memcmp(name.p, key, name.len) == 0)
			return value;
	}
	return (pb_bytes) {NULL, 0};
}

/* A reader of Python's text. */
typedef struct py_text
{
	const uint8_t *p,
			   *end;
} py_text;

static bool
next_is(py_text *t, char c)
{
	while (t->p < t->end && *t->p == ' ')
		t->p++;
	if (t->p == t->end || *t->p != (uint8_t) c)
		return false;
	t->p++;
	return true;
}

static bool
next_number(py_text *t, int *out)
{
	const uint8_t *first;
	int64_t		n = 0;

	while (t->p < t->end && *t->p == ' ')
		t->p++;
	for (first = t->p; t->p < t->end && *t->p >= '0' && *t->p <= '9' && n < MAX_NAMES; t->p++)
		n = n * 10 + (*t->p - '0');
	*out = (int) n;
	return t->p > first;
}

/* A quoted string into out, which has room; its length, or -1. */
static int
next_string(py_text *t, char *out)
{
	char		quote = next_is(t, '\'') ? '\'' : next_is(t, '"') ? '"' : 0;
	int			n = 0;

	if (quote == 0)
		return -1;
	while (t->p < t->end && *t->p != (uint8_t) quote)
	{
		if (*t->p == '\\' && ++t->p == t->end)
			return -1;
		out[n++] = (char) *t->p++;
	}
	if (t->p == t->end)
		return -1;
	t->p++;
	out[n] = '\0';
	return n;
}

mr_code
nn_read_names(const mr_env *env, const uint8_t *onnx, size_t len, char **text, int *n, mr_status *st)
{
	pb_bytes	value = metadata(onnx, len, "names");
	py_text		t = {value.p, value.p + value.len};
	bool		dict;
	char	   *to;

	*text = NULL;
	*n = 0;
	if (value.len == 0 || !nn_onnx_utf8(value))
		return MR_OK;
	dict = next_is(&t, '{');
	if (!dict && !next_is(&t, '['))
		return MR_OK;
	*text = to = mr_alloc(env, value.len + 1);
	if (to == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory");
	do
	{
		int			number = *n;
		int			size;

		if (dict && (!next_number(&t, &number) || number != *n || !next_is(&t, ':')))
			break;
		size = next_string(&t, to);
		if (size < 1)
			break;
		to += size + 1;
		++*n;
	} while (*n < MAX_NAMES && next_is(&t, ','));
	if (!next_is(&t, dict ? '}' : ']'))
		*n = 0;
	if (*n == 0)
	{
		mr_free(env, *text);
		*text = NULL;
	}
	return MR_OK;
}
