/*
 * test_nn_names.c
 *	  Names of classes in an ONNX file's metadata: dicts and lists as Python
 *	  writes them, and whatever else may stand there.
 */
#include "nn/nn.h"
#include "unit.h"

/* A model of nothing but one pair of metadata; the length. */
static size_t
model(const char *key, const char *value, uint8_t *out)
{
	size_t		k = strlen(key),
				v = strlen(value),
				n = 0;

	out[n++] = 14 << 3 | 2;
	out[n++] = (uint8_t) (k + v + 4);
	out[n++] = 1 << 3 | 2;
	out[n++] = (uint8_t) k;
	memcpy(out + n, key, k);
	n += k;
	out[n++] = 2 << 3 | 2;
	out[n++] = (uint8_t) v;
	memcpy(out + n, value, v);
	return n + v;
}

/* The names joined by |, or "none". */
static bool
gives(const char *key, const char *value, const char *expected)
{
	uint8_t		bytes[256];
	size_t		len = model(key, value, bytes);
	uint8_t    *exact = malloc(len);	/* so that ASan sees what is read behind it */
	char	   *text,
			   *p;
	char		joined[256] = "";
	int			n;

	memcpy(exact, bytes, len);
	if (nn_read_names(&mr_env_malloc, exact, len, &text, &n, NULL) != MR_OK)
		return false;
	p = text;
	for (int i = 0; i < n; i++, p += strlen(p) + 1)
		snprintf(joined + strlen(joined), sizeof(joined) - strlen(joined), "%s%s", i ? "|" : "", p);
	mr_free(&mr_env_malloc, text);
	free(exact);
	return strcmp(n ? joined : "none", expected) == 0 && (n > 0) == (text != NULL);
}

int
main(void)
{
	uint8_t		bytes[256];
	size_t		len = model("names", "{0: 'cat', 1: 'dog'}", bytes);
	char	   *text;
	int			n,
				bad = 0;

	ok(gives("names", "{0: 'cat', 1: \"driver's licence\", 2: 'a\\'b'}", "cat|driver's licence|a'b"), "a dict, both quotes, an escape");
	ok(gives("names", "['cat', 'dog']", "cat|dog") && gives("names", "{0:'\xc3\xa9t\xc3\xa9'}", "\xc3\xa9t\xc3\xa9"), "a list; UTF-8; no spaces");
	ok(gives("other", "{0: 'cat'}", "none"), "another key");
	ok(gives("names", "", "none") && gives("names", "{}", "none") && gives("names", "cat", "none"), "nothing there");
	ok(gives("names", "{1: 'cat'}", "none") && gives("names", "{0: 'cat', 2: 'dog'}", "none") && gives("names", "{-1: 'x'}", "none"),
	   "numbers that do not count from 0");
	ok(gives("names", "{0: 'cat'", "none") && gives("names", "{0: 'cat", "none") && gives("names", "{0: 'cat\\", "none") &&
	   gives("names", "{0: cat}", "none") && gives("names", "{0: ''}", "none") && gives("names", "{0: 'a' 1: 'b'}", "none") &&
	   gives("names", "{0: 'a', 99999999999999999999: 'b'}", "none"), "what is cut short or badly written");
	ok(gives("names", "{0: '\xff'}", "none") && gives("names", "{0: 'a\nb'}", "none"), "bad UTF-8, control characters");
	for (size_t cut = 0; cut < len; cut++)
	{
		uint8_t    *part = malloc(cut + 1);

		memcpy(part, bytes, cut);
		bad += nn_read_names(&mr_env_malloc, part, cut, &text, &n, NULL) != MR_OK || n != 0;
		mr_free(&mr_env_malloc, text);
		free(part);
	}
	ok(bad == 0, "a file cut anywhere has none");
	return done_testing();
}
