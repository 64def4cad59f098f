/*
 * test_stream_avro.c
 *	  Avro: schemas accepted and refused, values of every type for columns of
 *	  every kind, and that no bytes make it read past their end (ASan), overflow
 *	  (UBSan) or work for longer than their number allows.
 */
#include "unit.h"

#include <time.h>

#include "stream/worker/avro.h"
#include "stream/worker/format.h"

static void *pieces[100000];
static int	n_pieces;

static void *
more(void *arg, size_t bytes)
{
	if (n_pieces == (int) (sizeof(pieces) / sizeof(*pieces)))
		return NULL;
	return pieces[n_pieces++] = malloc(bytes);
}

static kfk_arena arena = {NULL, NULL, more, NULL};
static kfk_fault fault;

static void
empty_arena(void)
{
	while (n_pieces > 0)
		free(pieces[--n_pieces]);
	arena.next = arena.end = NULL;
}

/* The one field "x" of a record, or a bare value as field "value", for a column of a kind: its text; or the SQLSTATE. */
static const char *
value_n(const char *type, kfk_kind kind, const char *bytes, size_t len)
{
	static char out[2048];
	char		schema_text[9000];
	kfk_field	field = {"x", 1, kind};
	kfk_decoder d = {.fields = &field,.n_fields = 1,.arena = &arena};
	const kfk_avro *schema;
	uint8_t    *exact = malloc(len ? len : 1);
	kfk_value	v;
	size_t		n = 0;

	memcpy(exact, bytes, len);
	fault.sqlstate[0] = fault.message[0] = '\0';
	snprintf(schema_text, sizeof(schema_text), "{\"type\":\"record\",\"name\":\"r\",\"namespace\":\"n.s\",\"fields\":[{\"name\":\"x\",\"type\":%s}]}", type);
	schema = kfk_avro_parse(schema_text, strlen(schema_text), &arena, &fault);
	if (schema == NULL || !kfk_avro_decode(schema, &d, exact, len, &v, &fault))
		snprintf(out, sizeof(out), "%s", fault.sqlstate);
	else if (v.state == KFK_NULL)
		snprintf(out, sizeof(out), "NULL");
	else if (v.state == KFK_AS_TEXT || kind == KFK_TEXT)
		snprintf(out, sizeof(out), "%.2000s", v.v.data);
	else if (kind == KFK_BYTEA)
		snprintf(out, sizeof(out), "%zu bytes", v.len);
	else if (kind == KFK_FLOAT4 || kind == KFK_FLOAT8)
		snprintf(out, sizeof(out), "%g", kind == KFK_FLOAT4 ? (double) v.v.float4 : v.v.float8);
	else if (kind == KFK_BOOL)
		snprintf(out, sizeof(out), "%d", v.v.boolean);
	else if (kind >= KFK_FLOAT4_ARRAY)
	{
		out[0] = '\0';
		for (size_t i = 0; i < v.len && n < sizeof(out) - 100; i++)
			n += (size_t) (v.nulls[i] ? snprintf(out + n, 100, "NULL ") :
						   kind == KFK_FLOAT4_ARRAY ? snprintf(out + n, 100, "%g ", (double) ((float *) v.v.data)[i]) :
						   kind == KFK_FLOAT8_ARRAY ? snprintf(out + n, 100, "%g ", ((double *) v.v.data)[i]) :
						   kind == KFK_INT4_ARRAY ? snprintf(out + n, 100, "%d ", ((int32_t *) v.v.data)[i]) :
						   kind == KFK_INT8_ARRAY ? snprintf(out + n, 100, "%lld ", (long long) ((int64_t *) v.v.data)[i]) :
						   snprintf(out + n, 100, "%.50s ", v.v.slices[i].data));
	}
	else
		snprintf(out, sizeof(out), "%lld", (long long) v.v.integer);
	free(exact);
	empty_arena();
	return out;
}

#define IS(type, kind, bytes, expected) \
	do { \
		const char *got_ = value_n(type, kind, bytes, sizeof(bytes) - 1); \
		if (!ok(strcmp(got_, expected) == 0, "%s: %s", type, expected)) \
			printf("# got %s: %s\n", got_, fault.message); \
	} while (0)

static void
test_values(void)
{
	IS("\"int\"", KFK_INT4, "\x01", "-1");
	IS("\"int\"", KFK_INT2, "\x80\x80\x04", "22003");
	IS("\"int\"", KFK_INT4, "\x80\x80\x80\x80\x10", "22003");
	IS("\"long\"", KFK_INT8, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "-9223372036854775808");
	IS("\"long\"", KFK_INT8, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x03", "22P02");
	IS("\"long\"", KFK_INT4, "\x80\x80\x80\x80\x20", "22003");
	IS("\"long\"", KFK_TEXT, "\x80\x80\x80\x80\x20", "4294967296");
	IS("\"long\"", KFK_FLOAT8, "\x06", "3");
	IS("\"long\"", KFK_INT8, "\x80", "22P02");
	IS("\"float\"", KFK_FLOAT4, "\x00\x00\x80\x3f", "1");
	IS("\"float\"", KFK_TEXT, "\xcd\xcc\xcc\x3d", "0.1");
	IS("\"double\"", KFK_FLOAT8, "\x9a\x99\x99\x99\x99\x99\xb9\x3f", "0.1");
	IS("\"double\"", KFK_FLOAT4, "\x00\x00\x00\x00\x00\x00\xf0\x7f", "inf");
	IS("\"double\"", KFK_FLOAT4, "\x9c\x75\x00\x88\x3c\xe4\x37\x7e", "22003");
	IS("\"double\"", KFK_JSON, "\x00\x00\x00\x00\x00\x00\xf8\x7f", "\"NaN\"");
	IS("\"boolean\"", KFK_BOOL, "\x01", "1");
	IS("\"boolean\"", KFK_TEXT, "\x00", "false");
	IS("\"boolean\"", KFK_BOOL, "\x02", "22P02");
	IS("\"string\"", KFK_TEXT, "\x0a" "caf\xc3\xa9", "caf\xc3\xa9");
	IS("\"string\"", KFK_TEXT, "\x02\xff", "22021");
	IS("\"string\"", KFK_TEXT, "\x02\x00", "22021");
	IS("\"string\"", KFK_TEXT, "\x41", "22P02");
	IS("\"string\"", KFK_JSON, "\x06" "a\"\n", "\"a\\\"\\u000a\"");
	IS("\"string\"", KFK_INT4, "\x04" "17", "17");
	IS("\"bytes\"", KFK_BYTEA, "\x04\x00\xff", "2 bytes");
	IS("\"bytes\"", KFK_TEXT, "\x08" "\x00\xff\x01\x02", "AP8BAg==");
	IS("\"null\"", KFK_TEXT, "", "NULL");
	IS("[\"null\",\"int\"]", KFK_INT4, "\x00", "NULL");
	IS("[\"null\",\"int\"]", KFK_INT4, "\x02\x0a", "5");
	IS("[\"null\",\"int\"]", KFK_INT4, "\x04", "22P02");
	IS("[\"null\",\"int\"]", KFK_INT4, "\x01", "22P02");
	IS("{\"type\":\"enum\",\"name\":\"e\",\"symbols\":[\"A\",\"B\"]}", KFK_TEXT, "\x02", "B");
	IS("{\"type\":\"enum\",\"name\":\"e\",\"symbols\":[\"A\",\"B\"]}", KFK_TEXT, "\x04", "22P02");
	IS("\"int\"", KFK_INT4, "\x02x", "22P02");
}

static void
test_logical(void)
{
	IS("{\"type\":\"int\",\"logicalType\":\"date\"}", KFK_TEXT, "\x00", "1970-01-01");
	IS("{\"type\":\"int\",\"logicalType\":\"date\"}", KFK_TEXT, "\xef\xde\x59", "0044-03-15 BC");
	IS("{\"type\":\"int\",\"logicalType\":\"time-millis\"}", KFK_TEXT, "\xfe\xef\xb2\x52", "23:59:59.999000");
	IS("{\"type\":\"int\",\"logicalType\":\"time-millis\"}", KFK_TEXT, "\x01", "22008");
	IS("{\"type\":\"long\",\"logicalType\":\"timestamp-millis\"}", KFK_TIMESTAMPTZ, "\x02", "-946684799999000");
	IS("{\"type\":\"long\",\"logicalType\":\"timestamp-micros\"}", KFK_TEXT, "\x01", "1969-12-31T23:59:59.999999Z");
	IS("{\"type\":\"long\",\"logicalType\":\"local-timestamp-micros\"}", KFK_TEXT, "\x02", "1970-01-01T00:00:00.000001");
	IS("{\"type\":\"long\",\"logicalType\":\"timestamp-millis\"}", KFK_TIMESTAMPTZ, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "22008");
	IS("{\"type\":\"long\",\"logicalType\":\"timestamp-micros\"}", KFK_TIMESTAMPTZ, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "22008");
	IS("\"long\"", KFK_TIMESTAMPTZ, "\x02", "22008");
	IS("{\"type\":\"bytes\",\"logicalType\":\"decimal\",\"precision\":9,\"scale\":2}", KFK_TEXT, "\x04\xff\x85", "-1.23");
	IS("{\"type\":\"bytes\",\"logicalType\":\"decimal\",\"precision\":9,\"scale\":2}", KFK_TEXT, "\x02\x01", "0.01");
	IS("{\"type\":\"bytes\",\"logicalType\":\"decimal\",\"precision\":9}", KFK_TEXT, "\x02\x80", "-128");
	IS("{\"type\":\"bytes\",\"logicalType\":\"decimal\",\"precision\":9,\"scale\":3}", KFK_TEXT, "\x00", "0.000");
	IS("{\"type\":\"bytes\",\"logicalType\":\"decimal\",\"precision\":30,\"scale\":0}", KFK_JSON, "\x14\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff", "604462909807314587353087");
	IS("{\"type\":\"bytes\",\"logicalType\":\"decimal\",\"precision\":30,\"scale\":0}", KFK_TEXT, "\x10\x80\x00\x00\x00\x00\x00\x00\x00", "-9223372036854775808");
	IS("{\"type\":\"fixed\",\"name\":\"d\",\"size\":2,\"logicalType\":\"decimal\",\"precision\":4,\"scale\":1}", KFK_TEXT, "\x00\x0f", "1.5");
	IS("{\"type\":\"string\",\"logicalType\":\"uuid\"}", KFK_TEXT, "\x02y", "y");
	IS("{\"type\":\"fixed\",\"name\":\"u\",\"size\":16,\"logicalType\":\"uuid\"}", KFK_TEXT, "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f", "00010203-0405-0607-0809-0a0b0c0d0e0f");
	IS("{\"type\":\"fixed\",\"name\":\"p\",\"size\":12,\"logicalType\":\"duration\"}", KFK_TEXT, "\x01\0\0\0\x02\0\0\0\xdc\x05\0\0", "1 months 2 days 1.500 seconds");
	IS("{\"type\":\"string\",\"logicalType\":\"date\"}", KFK_TEXT, "\x02y", "y");
}

static void
test_nested(void)
{
	IS("{\"type\":\"array\",\"items\":\"float\"}", KFK_FLOAT4_ARRAY, "\x04\x00\x00\x80\x3f\x00\x00\x00\x40\x00", "1 2 ");
	IS("{\"type\":\"array\",\"items\":[\"null\",\"long\"]}", KFK_INT8_ARRAY, "\x03\x06\x00\x02\x0a\x02\x02\x01\x00", "NULL 5 -1 ");
	IS("{\"type\":\"array\",\"items\":\"int\"}", KFK_FLOAT8_ARRAY, "\x00", "");
	IS("{\"type\":\"array\",\"items\":\"string\"}", KFK_TEXT_ARRAY, "\x04\x02" "a\x04" "b,\x00", "a b, ");
	IS("{\"type\":\"array\",\"items\":{\"type\":\"int\",\"logicalType\":\"date\"}}", KFK_TEXT_ARRAY, "\x02\x00\x00", "1970-01-01 ");
	IS("{\"type\":\"array\",\"items\":\"string\"}", KFK_FLOAT4_ARRAY, "\x02\x02" "a\x00", "22P02");
	IS("{\"type\":\"array\",\"items\":\"double\"}", KFK_INT4_ARRAY, "\x02\0\0\0\0\0\0\0\0\x00", "22P02");
	IS("{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":\"int\"}}", KFK_TEXT_ARRAY, "\x02\x02\x02\x00\x00", "22P02");
	IS("{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":\"int\"}}", KFK_JSON, "\x02\x04\x02\x04\x00\x00", "[[1,2]]");
	IS("{\"type\":\"map\",\"values\":\"int\"}", KFK_JSON, "\x04\x02" "a\x02\x02" "b\x04\x00", "{\"a\":1,\"b\":2}");
	IS("{\"type\":\"map\",\"values\":\"int\"}", KFK_JSON, "\x00", "{}");
	IS("{\"type\":\"record\",\"name\":\"q\",\"fields\":[{\"name\":\"a\",\"type\":\"int\"},{\"name\":\"b\",\"type\":[\"null\",\"n.s.q\"]}]}", KFK_JSON,
	   "\x02\x02\x04\x00", "{\"a\":1,\"b\":{\"a\":2,\"b\":null}}");
	IS("{\"type\":\"record\",\"name\":\"q\",\"fields\":[]}", KFK_TEXT, "", "{}");
	IS("{\"type\":\"record\",\"name\":\"q\",\"fields\":[]}", KFK_INT4, "", "{}");
}

static void
test_schemas(void)
{
	static const char *const bad[] = {"\"thing\"", "{\"type\":\"record\"}", "{\"type\":\"record\",\"name\":\"q\"}", "{\"type\":\"record\",\"name\":\"q\",\"fields\":[{\"name\":\"a\"}]}",
		"{\"type\":\"enum\",\"name\":\"q\"}", "{\"type\":\"enum\",\"name\":\"q\",\"symbols\":[1]}", "{\"type\":\"fixed\",\"name\":\"q\"}", "{\"type\":\"fixed\",\"name\":\"q\",\"size\":-1}",
		"{\"type\":\"array\"}", "{\"type\":\"map\"}", "{}", "1", "null", "true", "[", "\"int\" 1", "", "{\"type\":\"int\",}", "{\"type\" 1}", "\"int"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
	{
		char	   *exact = malloc(strlen(bad[i]) + 1);

		memcpy(exact, bad[i], strlen(bad[i]));
		fault.sqlstate[0] = '\0';
		ok(kfk_avro_parse(exact, strlen(bad[i]), &arena, &fault) == NULL && strcmp(fault.sqlstate, "22023") == 0, "refused: %s (%s)", bad[i], fault.message);
		free(exact);
	}
	empty_arena();
}

/* What takes no bytes must not take time: each of these ends, and soon. */
static void
test_bombs(void)
{
	clock_t		t = clock();
	char		schema[8192];
	size_t		n;

	IS("{\"type\":\"array\",\"items\":\"null\"}", KFK_JSON, "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00", "54000");
	IS("{\"type\":\"array\",\"items\":\"null\"}", KFK_TEXT_ARRAY, "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00", "54000");
	IS("{\"type\":\"record\",\"name\":\"q\",\"fields\":[{\"name\":\"a\",\"type\":\"q\"}]}", KFK_JSON, "", "54001");
	IS("{\"type\":\"record\",\"name\":\"q\",\"fields\":[{\"name\":\"a\",\"type\":\"n.s.q\"}]}", KFK_TEXT, "", "54001");

	/* Records of two records of two records ... of nothing. */
	n = (size_t) snprintf(schema, sizeof(schema), "{\"type\":\"record\",\"name\":\"q\",\"fields\":[{\"name\":\"z\",\"type\":{\"type\":\"record\",\"name\":\"r0\",\"fields\":[]}}");
	for (int i = 1; i < 40; i++)
		n += (size_t) snprintf(schema + n, sizeof(schema) - n, ",{\"name\":\"f%d\",\"type\":[{\"type\":\"record\",\"name\":\"r%d\",\"fields\":[{\"name\":\"a\",\"type\":\"r%d\"},{\"name\":\"b\",\"type\":\"r%d\"}]}]}", i, i, i - 1, i - 1);
	snprintf(schema + n, sizeof(schema) - n, "]}");
	{
		char		zeros[64] = {0};

		ok(strcmp(value_n(schema, KFK_JSON, zeros, 39), "54000") == 0, "2^39 records in 39 bytes: %s", fault.message);
	}
	ok((double) (clock() - t) / CLOCKS_PER_SEC < 20, "in bounded time (%.2f s under sanitizers)", (double) (clock() - t) / CLOCKS_PER_SEC);
}

static const char big[] = "{\"type\":\"record\",\"name\":\"r\",\"fields\":[{\"name\":\"i\",\"type\":\"int\"},{\"name\":\"s\",\"type\":\"string\"},{\"name\":\"u\",\"type\":[\"null\",\"double\"]},"
	"{\"name\":\"a\",\"type\":{\"type\":\"array\",\"items\":\"float\"}},{\"name\":\"at\",\"type\":{\"type\":\"array\",\"items\":[\"null\",\"string\"]}},"
	"{\"name\":\"m\",\"type\":{\"type\":\"map\",\"values\":{\"type\":\"bytes\",\"logicalType\":\"decimal\",\"scale\":2}}},{\"name\":\"n\",\"type\":[\"null\",\"r\"]},"
	"{\"name\":\"ts\",\"type\":{\"type\":\"long\",\"logicalType\":\"timestamp-micros\"}}]}";

static void
test_damage(void)
{
	static const char good[] = "\x0a\x06" "abc\x02\0\0\0\0\0\0\xf0\x3f\x04\0\0\x80\x3f\0\0\0\x40\0\x04\x02\x02x\0\0\x02\x02k\x04\x01\x85\0\0\x02";
	static const kfk_field fields[] = {{"i", 1, KFK_INT4}, {"s", 1, KFK_TEXT}, {"u", 1, KFK_FLOAT8}, {"a", 1, KFK_FLOAT4_ARRAY}, {"at", 2, KFK_TEXT_ARRAY},
	{"m", 1, KFK_JSON}, {"n", 1, KFK_JSON}, {"ts", 2, KFK_TIMESTAMPTZ}};
	kfk_decoder d = {.fields = fields,.n_fields = 8,.arena = &arena};
	uint32_t	seed = 7;
	int			wrong = 0;
	int			whole = 0;

	for (int i = 0; i < 40000; i++)
	{
		size_t		len = sizeof(good) - 1;
		uint8_t    *copy;
		const kfk_avro *schema;
		kfk_value	v[8];

		if (i % 50 == 0)
			empty_arena();
		fault.sqlstate[0] = fault.message[0] = '\0';
		seed = seed * 1664525 + 1013904223;
		if (i > 0 && i % 5 == 0)
			len = (seed >> 8) % len;
		copy = malloc(len ? len : 1);
		memcpy(copy, good, len);
		for (int k = 0; i > 0 && len > 0 && k < 1 + i % 3; k++)
		{
			seed = seed * 1664525 + 1013904223;
			copy[(seed >> 8) % len] = (uint8_t) (seed >> 24);
		}
		schema = kfk_avro_parse(big, sizeof(big) - 1, &arena, &fault);
		if (schema == NULL)
			wrong++;
		else if (kfk_avro_decode(schema, &d, copy, len, v, &fault))
			whole++;
		else
			wrong += strlen(fault.sqlstate) != 5 || !mr_utf8(fault.message, strlen(fault.message));
		if (i == 0)
			ok(whole == 1, "the whole message: %s", fault.message);
		free(copy);
	}
	empty_arena();
	ok(wrong == 0, "40,000 damaged messages: %d read, the others faults with a code", whole);
}

int
main(void)
{
	test_values();
	test_logical();
	test_nested();
	test_schemas();
	test_bombs();
	test_damage();
	return done_testing();
}
