/*
 * fuzz_stream_format.c
 *	  libFuzzer: any bytes as a message of any format with any options end in
 *	  rows or in a fault that has a code and a message in UTF-8.
 *
 * make fuzz (clang with libFuzzer), then
 *	  unit/bin/fuzz_stream_format -max_len=4096 -timeout=5 CORPUS
 *
 * The first byte chooses the format, the second its options.
 */
#include <stdlib.h>
#include <string.h>

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

static const kfk_field fields[] = {
	{"t", 1, KFK_TEXT}, {"n", 1, KFK_INT4}, {"f", 1, KFK_FLOAT8}, {"ts", 2, KFK_TIMESTAMPTZ}, {"b", 1, KFK_BOOL},
	{"by", 2, KFK_BYTEA}, {"j", 1, KFK_JSON}, {"a", 1, KFK_FLOAT4_ARRAY}, {"i", 1, KFK_INT8_ARRAY}, {"at", 2, KFK_TEXT_ARRAY}
};
#define N ((int) (sizeof(fields) / sizeof(*fields)))

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const char *const formats[] = {"json", "csv", "text", "bytes"};
	static const int positions[N] = {0, 1, 2, 3, -1, 5, 6, 7, 8, 9};
	kfk_arena	arena = {NULL, NULL, more, NULL};
	kfk_format_options options;
	kfk_decoder decoder = {.fields = fields,.n_fields = N,.arena = &arena,.options = &options,.positions = positions,.n_positions = N};
	kfk_value	values[N];
	kfk_fault	fault = {"", ""};
	kfk_reader	reader;
	kfk_step	step;
	const kfk_format *format;
	char	   *exact;

	if (len < 2)
		return 0;
	format = kfk_find_format(formats[data[0] % 4]);
	options = (kfk_format_options) {data[1] & 1, data[1] & 2, data[1] & 4 ? '\t' : ',', data[1] & 8 ? '\0' : '"', data[1] & 16 ? "\\N" : "", data[1] & 16 ? 2 : 0};
	decoder.refuse_unknown = data[1] & 32;
	exact = malloc(len - 1);	/* one more than needed: never of size 0 */
	memcpy(exact, data + 2, len - 2);
	reader = kfk_read(&decoder, exact, len - 2);
	while ((step = format->next(&reader, values, &fault)) == KFK_ROW)
		for (int i = 0; i < N; i++)
			if (values[i].state == KFK_AS_TEXT && values[i].v.data[values[i].len] != '\0')
				abort();
	if (step == KFK_FAULT && (strlen(fault.sqlstate) != 5 || fault.message[0] == '\0' || !mr_utf8(fault.message, strlen(fault.message))))
		abort();
	free(exact);
	while (n_pieces > 0)
		free(pieces[--n_pieces]);
	return 0;
}
