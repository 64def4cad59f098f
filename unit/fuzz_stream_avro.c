/*
 * fuzz_stream_avro.c
 *	  libFuzzer: any text as an Avro schema, any bytes as its value.
 *
 * make fuzz (clang with libFuzzer), then
 *	  unit/bin/fuzz_stream_avro -max_len=2048 -timeout=5 -rss_limit_mb=1024 CORPUS
 *
 * The schema is what stands before the first zero byte, or where that is empty
 * one with every type; the value is what follows.
 */
#include <stdlib.h>
#include <string.h>

#include "stream/worker/avro.h"
#include "stream/worker/format.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void *pieces[100000];
static int	n_pieces;

static void *
more(void *arg, size_t bytes)
{
	(void) arg;
	if (n_pieces == (int) (sizeof(pieces) / sizeof(*pieces)) || bytes > 64 << 20)
		return NULL;
	return pieces[n_pieces++] = malloc(bytes);
}

static const char every[] = "{\"type\":\"record\",\"name\":\"r\",\"fields\":[{\"name\":\"i\",\"type\":\"int\"},{\"name\":\"s\",\"type\":\"string\"},"
	"{\"name\":\"u\",\"type\":[\"null\",\"double\",\"boolean\"]},{\"name\":\"a\",\"type\":{\"type\":\"array\",\"items\":\"float\"}},"
	"{\"name\":\"at\",\"type\":{\"type\":\"array\",\"items\":[\"null\",\"string\"]}},"
	"{\"name\":\"m\",\"type\":{\"type\":\"map\",\"values\":{\"type\":\"bytes\",\"logicalType\":\"decimal\",\"scale\":2}}},{\"name\":\"n\",\"type\":[\"null\",\"r\"]},"
	"{\"name\":\"ts\",\"type\":{\"type\":\"long\",\"logicalType\":\"timestamp-micros\"}},{\"name\":\"d\",\"type\":{\"type\":\"int\",\"logicalType\":\"date\"}},"
	"{\"name\":\"e\",\"type\":{\"type\":\"enum\",\"name\":\"en\",\"symbols\":[\"A\",\"B\"]}},{\"name\":\"x\",\"type\":{\"type\":\"array\",\"items\":\"null\"}},"
	"{\"name\":\"f\",\"type\":{\"type\":\"fixed\",\"name\":\"fx\",\"size\":12,\"logicalType\":\"duration\"}}]}";

static const kfk_field fields[] = {
	{"i", 1, KFK_INT2}, {"s", 1, KFK_TEXT}, {"u", 1, KFK_FLOAT8}, {"a", 1, KFK_FLOAT4_ARRAY}, {"at", 2, KFK_TEXT_ARRAY},
	{"m", 1, KFK_JSON}, {"n", 1, KFK_JSON}, {"ts", 2, KFK_TIMESTAMPTZ}, {"d", 1, KFK_TEXT}, {"e", 1, KFK_TEXT}, {"x", 1, KFK_INT8_ARRAY},
	{"f", 1, KFK_BYTEA}, {"value", 5, KFK_TEXT}
};
#define N ((int) (sizeof(fields) / sizeof(*fields)))

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	kfk_arena	arena = {NULL, NULL, more, NULL};
	kfk_decoder decoder = {.fields = fields,.n_fields = N,.arena = &arena};
	kfk_value	values[N];
	kfk_fault	fault = {"", ""};
	const uint8_t *zero = memchr(data, 0, len);
	size_t		schema_len = zero ? (size_t) (zero - data) : len;
	size_t		value_len = zero ? len - schema_len - 1 : 0;
	char	   *text = malloc(schema_len + 1);
	uint8_t    *value = malloc(value_len + 1);
	const kfk_avro *schema;

	memcpy(text, data, schema_len);
	memcpy(value, data + len - value_len, value_len);
	schema = schema_len > 0 ? kfk_avro_parse(text, schema_len, &arena, &fault) : kfk_avro_parse(every, sizeof(every) - 1, &arena, &fault);
	if (schema != NULL && kfk_avro_decode(schema, &decoder, value, value_len, values, &fault))
	{
		for (int i = 0; i < N; i++)
			if (values[i].state == KFK_AS_TEXT && !mr_utf8(values[i].v.data, values[i].len))
				abort();
	}
	else if (strlen(fault.sqlstate) != 5 || fault.message[0] == '\0' || !mr_utf8(fault.message, strlen(fault.message)))
		abort();
	free(text);
	free(value);
	while (n_pieces > 0)
		free(pieces[--n_pieces]);
	return 0;
}
