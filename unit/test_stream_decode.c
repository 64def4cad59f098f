/*
 * test_stream_decode.c
 *	  The message decoder: values of every kind, every fault, and that no
 *	  message, whole or cut, makes it read past its end (ASan).
 */
#include "unit.h"

#include <float.h>
#include <math.h>
#include <time.h>

#include "stream/worker/format.h"
#include "stream/worker/scalar.h"

static void *pieces[100000];
static int	n_pieces;
static bool starve;

static void *
more(void *arg, size_t bytes)
{
	if (starve)
		return NULL;
	return pieces[n_pieces++] = malloc(bytes);
}

static kfk_arena arena = {NULL, NULL, more, NULL};

static void
empty_arena(void)
{
	while (n_pieces > 0)
		free(pieces[--n_pieces]);
	arena.next = arena.end = NULL;
}

static const kfk_field fields[] = {
	{"t", 1, KFK_TEXT}, {"i2", 2, KFK_INT2}, {"i4", 2, KFK_INT4}, {"i8", 2, KFK_INT8},
	{"f4", 2, KFK_FLOAT4}, {"f8", 2, KFK_FLOAT8}, {"b", 1, KFK_BOOL}, {"ts", 2, KFK_TIMESTAMPTZ},
	{"by", 2, KFK_BYTEA}, {"j", 1, KFK_JSON}, {"af4", 3, KFK_FLOAT4_ARRAY}, {"af8", 3, KFK_FLOAT8_ARRAY},
	{"ai4", 3, KFK_INT4_ARRAY}, {"ai8", 3, KFK_INT8_ARRAY}, {"at", 2, KFK_TEXT_ARRAY}
};
enum {T, I2, I4, I8, F4, F8, B, TS, BY, J, AF4, AF8, AI4, AI8, AT, N};

static kfk_value v[N];
static kfk_fault fault;

/* Decode from memory that ends exactly where the message does: one row, and then no other. */
static bool
decode_n(const char *json, size_t len, bool refuse)
{
	static const kfk_format_options plain;
	kfk_decoder d = {.fields = fields,.n_fields = N,.refuse_unknown = refuse,.arena = &arena,.options = &plain};
	char	   *exact = malloc(len ? len : 1);
	kfk_reader	r;
	kfk_value	none[N];
	bool		good;

	memcpy(exact, json, len);
	fault.message[0] = fault.sqlstate[0] = '\0';
	r = kfk_read(&d, exact, len);
	good = kfk_json_next(&r, v, &fault) == KFK_ROW && kfk_json_next(&r, none, &fault) == KFK_DONE;
	free(exact);
	return good;
}

static bool
decode(const char *json)
{
	return decode_n(json, strlen(json), false);
}

static void
refused(const char *json, const char *sqlstate, const char *part)
{
	bool		good = decode(json);

	ok(!good && strcmp(fault.sqlstate, sqlstate) == 0 && strstr(fault.message, part) != NULL,
	   "%.60s: %s %s", json, fault.sqlstate, fault.message);
}

static void
test_values(void)
{
	const float *f4;

	ok(decode(" {\"t\" : \"caf\\u00e9 \\ud83d\\ude00\\n\\/\" , \"i2\":-32768,\"i4\":2147483647,\"i8\":-9223372036854775808,"
			  "\"f4\":0.1,\"f8\":1e-3,\"b\":true,\"ts\":\"2026-11-21T07:58:00.25+02:00\",\"by\":\"aGVsbG8=\",\"j\":{\"a\":[1,{}]},"
			  "\"af4\":[1,-2.5,3e2],\"af8\":[],\"ai4\":[1,null,3],\"ai8\":[4],\"at\":[\"x\",null,7,true]}\n"), "all kinds: %s", fault.message);
	ok(v[T].state == KFK_SET && strcmp(v[T].v.data, "caf\xc3\xa9 \xf0\x9f\x98\x80\n/") == 0 && v[T].len == strlen(v[T].v.data), "text and its escapes");
	ok(v[I2].v.integer == -32768 && v[I4].v.integer == 2147483647 && v[I8].v.integer == INT64_MIN, "integers at their bounds");
	ok(v[F4].v.float4 == 0.1f && v[F8].v.float8 == 1e-3 && v[B].v.boolean, "floats and booleans");
	ok(v[TS].state == KFK_SET && v[TS].v.integer == INT64_C(848555880250000), "timestamp: %lld", (long long) v[TS].v.integer);
	ok(v[BY].len == 5 && memcmp(v[BY].v.data, "hello", 5) == 0, "base64");
	ok(v[J].state == KFK_AS_TEXT && strcmp(v[J].v.data, "{\"a\":[1,{}]}") == 0, "nested JSON as it stands");
	f4 = (const float *) v[AF4].v.data;
	ok(v[AF4].len == 3 && f4[0] == 1 && f4[1] == -2.5f && f4[2] == 300 && v[AF8].len == 0, "float arrays");
	ok(v[AI4].len == 3 && v[AI4].has_nulls && v[AI4].nulls[1] && !v[AI4].nulls[0] && ((int32_t *) v[AI4].v.data)[2] == 3 &&
	   !v[AI8].has_nulls && ((int64_t *) v[AI8].v.data)[0] == 4, "integer arrays, with a null");
	ok(v[AT].len == 4 && strcmp(v[AT].v.slices[0].data, "x") == 0 && v[AT].v.slices[1].data == NULL &&
	   strcmp(v[AT].v.slices[2].data, "7") == 0 && strcmp(v[AT].v.slices[3].data, "true") == 0, "text array");

	ok(decode("{\"i4\":null}") && v[I4].state == KFK_NULL && v[T].state == KFK_ABSENT, "null and absent differ");
	ok(decode("{\"i4\":1,\"i4\":2}") && v[I4].v.integer == 2, "the last of equal keys counts");
	ok(decode("{\"t\":12.50,\"i4\":\"7\",\"f8\":\"NaN\",\"ts\":\"yesterday\"}") && strcmp(v[T].v.data, "12.50") == 0 &&
	   v[I4].state == KFK_AS_TEXT && v[F8].state == KFK_AS_TEXT && v[TS].state == KFK_AS_TEXT, "what the types' input functions decide");
	ok(decode("{\"i4\":1e3,\"i8\":10.0}") && v[I4].v.integer == 1000 && v[I8].v.integer == 10, "whole numbers in other spellings");
	ok(decode("{\"\\u0074\":1}") && v[T].state == KFK_SET, "an escaped key is the key");
	ok(decode("{\"x\":{\"y\":[[[1,2],\"\\\"]\"],{}]},\"i4\":5}") && v[I4].v.integer == 5, "unknown keys are passed over");
	ok(!decode_n("{\"x\":1}", 7, true) && strcmp(fault.sqlstate, "22023") == 0, "or refused: %s", fault.message);
	ok(decode("{\"by\":\"_-8\"}") && v[BY].len == 2 && memcmp(v[BY].v.data, "\xff\xef", 2) == 0, "base64url without padding");
	ok(decode("{}") && decode(" { } "), "an empty object");
	empty_arena();
}

static void
test_faults(void)
{
	char		deep[2000];

	refused("", "22P02", "expected a JSON object");
	refused("[1]", "22P02", "expected a JSON object");
	refused("hello", "22P02", "at byte 1");
	refused("{\"i4\":1", "22P02", "ends after");
	refused("{\"i4\":1}x", "22P02", "end of the message");
	refused("{\"i4\":1,}", "22P02", "a key");
	refused("{\"i4\" 1}", "22P02", "a colon");
	refused("{\"i4\":01}", "22P02", "expected");
	refused("{\"i4\":1.5}", "22P02", "not an integer");
	refused("{\"i4\":2147483648}", "22003", "out of range");
	refused("{\"i2\":32768}", "22003", "out of range");
	refused("{\"i8\":9223372036854775808}", "22003", "out of range");
	refused("{\"i8\":123456789012345678901234567890}", "22003", "out of range");
	refused("{\"f4\":1e39}", "22003", "out of range");
	refused("{\"f8\":1e999}", "22003", "out of range");
	refused("{\"f8\":NaN}", "22P02", "expected a value");
	refused("{\"f8\":[1]}", "22P02", "single value");
	refused("{\"b\":1}", "22P02", "true or false");
	refused("{\"ts\":5}", "22P02", "timestamp in a string");
	refused("{\"by\":\"a\"}", "22P02", "not base64");
	refused("{\"by\":\"!!!!\"}", "22P02", "not base64");
	refused("{\"by\":\"\\n\"}", "22P02", "not base64");
	refused("{\"af4\":7}", "22P02", "not an array");
	refused("{\"af4\":[1,\"x\"]}", "22P02", "array of numbers");
	refused("{\"af4\":[1,]}", "22P02", "expected a number");
	refused("{\"af4\":[1e39]}", "22003", "out of range");
	refused("{\"at\":[[1]]}", "22P02", "one dimension");
	refused("{\"t\":\"\\u0000\"}", "22P05", "u0000");
	refused("{\"x\":\"\\u0000\"}", "22P05", "u0000");
	refused("{\"t\":\"\\ud800\"}", "22P02", "surrogate");
	refused("{\"t\":\"\\ude00\"}", "22P02", "surrogate");
	refused("{\"t\":\"\\q\"}", "22P02", "escape");
	refused("{\"t\":\"a\nb\"}", "22P02", "control character");
	refused("{\"t\":\"\xff\"}", "22021", "UTF-8");
	refused("{\"t\":\"\xed\xa0\x80\"}", "22021", "UTF-8");
	refused("{\"t\":\"\xc0\x80\"}", "22021", "UTF-8");
	ok(!decode_n("{\"t\":\"a\0b\"}", 11, false) && strcmp(fault.sqlstate, "22021") == 0, "zero byte: %s", fault.message);
	memset(deep, '[', sizeof(deep));
	memcpy(deep, "{\"j\":", 5);
	ok(!decode_n(deep, sizeof(deep), false) && strcmp(fault.sqlstate, "54001") == 0, "depth: %s", fault.message);
	empty_arena();
	starve = true;
	ok(!decode("{\"t\":\"abc\"}") && strcmp(fault.sqlstate, "53200") == 0, "no memory: %s", fault.message);
	starve = false;
	empty_arena();
}

/* Every prefix of a message and random damage: a fault or values, never more. */
static void
test_damage(void)
{
	static const char json[] = "{\"t\":\"caf\xc3\xa9 \\u00e9 \\ud83d\\ude00\",\"i4\":-12,\"f4\":0.1e-3,\"b\":false,\"ts\":\"2026-11-21T07:58:00Z\","
		"\"by\":\"aGVsbG8=\",\"j\":{\"a\":[1,{\"b\":null}]},\"af4\":[1,null,-2.5,3e2],\"at\":[\"x\",null,7]}";
	size_t		len = sizeof(json) - 1;
	int			good = 0;
	uint32_t	seed = 1;

	for (size_t n = 0; n < len; n++)
		good += decode_n(json, n, false);
	ok(good == 0 && decode_n(json, len, false), "no prefix of a message is a message");
	empty_arena();
	for (int i = 0; i < 60000; i++)
	{
		char		copy[sizeof(json)];

		memcpy(copy, json, len);
		for (int k = 0; k < 1 + i % 3; k++)
		{
			seed = seed * 1664525 + 1013904223;
			copy[(seed >> 8) % len] = i % 2 ? "\"\\{}[],:u0e-. n"[seed >> 28] : (char) (seed >> 24);
		}
		if (!decode_n(copy, len, false))
		{
			if (fault.sqlstate[0] == '\0' || !mr_utf8(fault.message, strlen(fault.message)))
				good++;
		}
		if (i % 100 == 0)
			empty_arena();
	}
	ok(good == 0, "60,000 damaged messages: each fault has a code and a message in UTF-8");
	empty_arena();
}

static void
test_rounding(void)
{
	uint64_t	seed = 88172645463325252ULL;
	int			wrong4 = 0,
				wrong8 = 0;
	static const char *hard[] = {"16777217", "16777216.999999999", "16777217.0000000001", "1.00000005960464477539", "1.000000059604644775390625",
		"1.0000000596046447753906251", "3.4028235677973366e38", "3.4028235677973365e38", "1.401298464324817e-45", "7.006492321624085e-46", "0.1", "1e-22",
		"9007199254740993", "8.5e-40", "0.30000001192092896", "0.000000000000000000012345678901234567", "-0", "-0.0", "5e-324", "2.2250738585072011e-308"};

	for (int i = 0; i < 400000; i++)
	{
		char		text[64];
		kfk_number	n;
		float		f = 0;
		double		d = 0;

		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		if (i < (int) (sizeof(hard) / sizeof(*hard)))
			snprintf(text, sizeof(text), "%s", hard[i]);
		else if (i % 3 == 0)
		{
			union {uint32_t u; float f;} a = {.u = (uint32_t) (seed >> 20) & 0x7f7fffff};

			/* A midpoint between two floats, sometimes a hair off it. */
			snprintf(text, sizeof(text), "%.*g", 9 + (int) (seed % 14), (double) a.f / 2 + (double) nextafterf(a.f, INFINITY) / 2);
		}
		else
			snprintf(text, sizeof(text), "%.*g", 1 + (int) (seed % 20), (double) (int64_t) seed / (i % 2 ? 9.2e18 : 3.1e7));
		if (kfk_scan_number(text, text + strlen(text), &n) == NULL)
		{
			wrong4++;
			continue;
		}
		if ((kfk_to_float4(&n, &f) == KFK_ROUNDED) != (bool) isfinite(strtof(text, NULL)) || (isfinite(strtof(text, NULL)) && f != strtof(text, NULL)))
			wrong4++;
		if (kfk_to_float8(&n, &d) != KFK_ROUNDED || d != strtod(text, NULL) || signbit(d) != signbit(strtod(text, NULL)))
			wrong8++;
	}
	ok(wrong4 == 0, "400,000 numbers, midpoints among them: real as strtof() rounds, %d differ", wrong4);
	ok(wrong8 == 0, "double precision as strtod() rounds, %d differ", wrong8);
}

static void
test_timestamps(void)
{
	static const struct {const char *text; bool good; int64_t micros;} cases[] = {
		{"2000-01-01T00:00:00Z", true, 0},
		{"2000-01-01 00:00Z", true, 0},
		{"1999-12-31T23:59:59.999999+00", true, -1},
		{"2024-02-29T12:00:00-0530", true, INT64_C(762543000000000)},
		{"0001-01-01T00:00:00Z", true, INT64_C(-63082281600000000)},
		{"9999-12-31T23:59:59Z", true, INT64_C(252455615999000000)},
		{"2023-02-29T12:00:00Z", false, 0}, {"1900-02-29T12:00:00Z", false, 0}, {"2026-13-01T00:00:00Z", false, 0},
		{"2026-01-01T24:00:00Z", false, 0}, {"2026-01-01T00:00:00", false, 0}, {"2026-01-01T00:00:60Z", false, 0},
		{"2026-01-01T00:00:00.1234567Z", false, 0}, {"2026-01-01T00:00:00.Z", false, 0}, {"2026-01-01T00:00:00+1", false, 0},
		{"2026-01-01T00:00:00Zx", false, 0}, {"2026-01-01", false, 0}, {"2026-1-01T00:00:00Z", false, 0}
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
	{
		int64_t		micros = 0;
		bool		good = kfk_timestamp(cases[i].text, strlen(cases[i].text), &micros);

		ok(good == cases[i].good && micros == cases[i].micros, "%s: %s %lld", cases[i].text, good ? "read" : "left to the type", (long long) micros);
	}
	ok(kfk_crc32c(0, "123456789", 9) == 0xe3069283, "CRC-32C of the standard's check string");
}

/* Not an assertion: what a feature message costs (under sanitizers). */
static void
show_cost(void)
{
	char		json[1024];
	size_t		len = (size_t) sprintf(json, "{\"image_id\":\"img-00012345\",\"descriptors\":[");
	static const kfk_field feature[] = {{"image_id", 8, KFK_TEXT}, {"descriptors", 11, KFK_FLOAT4_ARRAY}, {"descriptor_count", 16, KFK_INT4}};
	static const kfk_format_options plain;
	kfk_decoder d = {.fields = feature,.n_fields = 3,.arena = &arena,.options = &plain};
	clock_t		t;

	for (int i = 0; i < 20; i++)
		len += (size_t) sprintf(json + len, "%s%.6f", i ? "," : "", sin(i) * 3);
	len += (size_t) sprintf(json + len, "],\"descriptor_count\":20}");
	t = clock();
	for (int i = 0; i < 200000; i++)
	{
		kfk_reader	r = kfk_read(&d, json, len);

		if (kfk_json_next(&r, v, &fault) != KFK_ROW)
			break;
		if (i % 1000 == 0)
			empty_arena();
	}
	printf("# a feature message of %zu bytes: %.2f us\n", len, (double) (clock() - t) / CLOCKS_PER_SEC * 5);
	empty_arena();
}

int
main(void)
{
	test_values();
	test_faults();
	test_damage();
	test_rounding();
	test_timestamps();
	show_cost();
	return done_testing();
}
