/*
 * test_stream_format.c
 *	  Formats row by row: CSV (RFC 4180), arrays of JSON objects, text and bytes;
 *	  that damage makes a fault with a code, and nothing reads past its end (ASan).
 */
#include "unit.h"

#include "stream/worker/format.h"

static void *pieces[100000];
static int	n_pieces;

static void *
more(void *arg, size_t bytes)
{
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

static const kfk_field fields[] = {{"t", 1, KFK_TEXT}, {"n", 1, KFK_INT4}, {"f", 1, KFK_FLOAT8}, {"ts", 2, KFK_TIMESTAMPTZ}};
static const int in_order[] = {0, 1, 2, 3};
static kfk_format_options options = {false, false, ',', '"', "", 0};
static kfk_decoder decoder = {.fields = fields,.n_fields = 4,.arena = &arena,.options = &options,.positions = in_order,.n_positions = 4};
static kfk_fault fault;

/* All rows of a message as text: states and values, "|" between fields, "/" behind rows; or the SQLSTATE of its fault. */
static const char *
rows_n(const char *format, const char *message, size_t len)
{
	static char out[4096];
	size_t		n = 0;
	const kfk_format *f = kfk_find_format(format);
	char	   *exact = malloc(len ? len : 1);
	kfk_reader	r;
	kfk_value	v[4];
	kfk_step	step;

	memcpy(exact, message, len);
	out[0] = fault.message[0] = fault.sqlstate[0] = '\0';
	r = kfk_read(&decoder, exact, len);
	while ((step = f->next(&r, v, &fault)) == KFK_ROW)
	{
		for (int i = 0; i < decoder.n_fields && n < sizeof(out) - 200; i++)
		{
			if (v[i].state == KFK_ABSENT || v[i].state == KFK_NULL)
				n += (size_t) snprintf(out + n, 200, "%s|", v[i].state == KFK_NULL ? "NULL" : "-");
			else if (v[i].state == KFK_AS_TEXT || fields[i].kind == KFK_TEXT)
				n += (size_t) snprintf(out + n, 200, "%s%.100s|", v[i].state == KFK_AS_TEXT ? "?" : "", v[i].v.data);
			else if (fields[i].kind == KFK_FLOAT8)
				n += (size_t) snprintf(out + n, 200, "%g|", v[i].v.float8);
			else
				n += (size_t) snprintf(out + n, 200, "%lld|", (long long) v[i].v.integer);
		}
		n += (size_t) snprintf(out + n, 200, "/");
	}
	free(exact);
	if (step == KFK_FAULT)
		snprintf(out, sizeof(out), "%s %.200s", fault.sqlstate, fault.message);
	empty_arena();
	return out;
}

static void
is(const char *format, const char *message, const char *expected)
{
	const char *got = rows_n(format, message, strlen(message));
	char		name[200];

	/* TAP names are one line. */
	snprintf(name, sizeof(name), "%s", message);
	for (char *p = name; *p; p++)
		if ((unsigned char) *p < ' ')
			*p = '~';
	ok(strncmp(got, expected, strlen(expected)) == 0 && (expected[0] == '2' || strcmp(got, expected) == 0), "%s %s", format, name);
	if (strncmp(got, expected, strlen(expected)) != 0)
		printf("# got %s\n", got);
}

static void
test_csv(void)
{
	is("csv", "a,1,2.5,2000-01-01T00:00:01Z", "a|1|2.5|1000000|/");
	is("csv", "a,1,2.5,2000-01-01T00:00:01Z\n", "a|1|2.5|1000000|/");
	is("csv", "a,1,2,\r\nb,2,3,\r\n", "a|1|2|NULL|/b|2|3|NULL|/");
	is("csv", "\"a,\"\"b\"\"\r\nc\",1,,\"\"", "a,\"b\"\r\nc|1|NULL|?|/");
	is("csv", "\"\",,,", "|NULL|NULL|NULL|/");
	is("csv", " a ,x,1e400,yesterday", " a |?x|?1e400|?yesterday|/");
	is("csv", "a,99999999999,1,2", "a|?99999999999|1|?2|/");
	is("csv", "a,1,2", "22P04 row 1 of the CSV message has fewer fields than the 4 expected");
	is("csv", "a,1,2,3\n\n", "22P04 row 2 of the CSV message has fewer");
	is("csv", "a,1,2,3,4", "22P04 row 1 of the CSV message has more");
	is("csv", "\"a,1,2,3", "22P04 invalid CSV: the field at byte 1 has no closing quote");
	is("csv", "\"a\"b,1,2,3", "22P04 invalid CSV at byte 4");
	is("csv", "a\"b,1,2,3", "22P04 invalid CSV at byte 2: a quote");
	is("csv", "a\rb,1,2,3", "22P04 invalid CSV at byte 2");
	is("csv", "", "22P04 the CSV message is empty");
	is("csv", "\xff,1,2,3", "22021");

	options.header = true;
	is("csv", "n,other,t\n5,x,y\n6,\"\",z\n", "y|5|-|-|/z|6|-|-|/");
	is("csv", "n,t\n", "");
	is("csv", "n,t\n1\n", "22P04 row 1");
	options.header = false;
	options.delimiter = '\t';
	options.quote = '\0';
	options.null_text = "\\N";
	options.null_len = 2;
	is("csv", "\"a\"\t\\N\t\t", "\"a\"|NULL|?|?|/");
	options = (kfk_format_options) {false, false, ',', '"', "", 0};
}

static void
test_others(void)
{
	is("json", "[{\"n\":1}]", "22P02");
	options.array_rows = true;
	is("json", "{\"n\":1}", "-|1|-|-|/");
	is("json", " [ {\"n\":1} , {\"t\":\"x\"} ] ", "-|1|-|-|/x|-|-|-|/");
	is("json", "[]", "");
	is("json", "[{\"n\":1},]", "22P02");
	is("json", "[{\"n\":1} {}]", "22P02");
	is("json", "[,{\"n\":1}]", "22P02");
	is("json", "[{\"n\":1}", "22P02");
	is("json", "[{\"n\":1}]x", "22P02");
	is("json", "[[]]", "22P02");
	is("json", "[1]", "22P02");
	options.array_rows = false;
	decoder.n_fields = 1;
	is("text", "a\nb", "a\nb|/");
	is("text", "", "|/");
	is("text", "\xff", "22021");
	ok(strcmp(rows_n("bytes", "\xff\x01", 2), "\xff\x01|/") == 0, "bytes are taken as they are");
	decoder.n_fields = 4;
	ok(kfk_find_format("xml") == NULL, "a format that does not exist");
}

/* Random damage: rows or a fault with a code and a message in UTF-8. */
static void
test_damage(void)
{
	static const char *samples[] = {"\"a,\"\"b\"\"\r\nc\",1,,\"\"\nx,2,0.5,2026-11-21T00:00:00Z\r\n", "[{\"n\":1,\"t\":\"caf\\u00e9\"},{\"ts\":\"2026-11-21T00:00:00Z\"}]"};
	uint32_t	seed = 1;
	int			wrong = 0;

	for (int i = 0; i < 100000; i++)
	{
		char		copy[128];
		size_t		len = strlen(samples[i & 1]);

		memcpy(copy, samples[i & 1], len);
		options.array_rows = true;
		options.header = i % 7 == 0;
		for (int k = 0; k < 1 + i % 4; k++)
		{
			seed = seed * 1664525 + 1013904223;
			copy[(seed >> 8) % len] = i % 3 ? "\",\r\n{}[]:a1 .-e"[seed >> 28] : (char) (seed >> 24);
		}
		seed = seed * 1664525 + 1013904223;
		rows_n(i & 1 ? "json" : "csv", copy, (seed >> 16) % 4 ? len : (seed >> 20) % len);
		wrong += fault.message[0] != '\0' && (strlen(fault.sqlstate) != 5 || !mr_utf8(fault.message, strlen(fault.message)));
	}
	ok(wrong == 0, "100,000 damaged messages");
}

int
main(void)
{
	test_csv();
	test_others();
	test_damage();
	return done_testing();
}
