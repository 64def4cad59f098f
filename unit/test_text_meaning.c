/*
 * test_text_meaning.c
 *	  The guard of meanings and the keys of questions: hostile bytes, symmetry,
 *	  memory that ends, endings.  What it says of real questions: sql/task_cache.sql, t/test_cache.py.
 */
#include "text/meaning.h"
#include "text/meaning_words.h"
#include "unit.h"

static mr_status st;

static int	left;				/* allocations until none is given */

static void *
few(void *arg, size_t size)
{
	return left-- > 0 ? mr_env_malloc.alloc(mr_env_malloc.arg, size) : NULL;
}

static void
release(void *arg, void *p)
{
	mr_env_malloc.release(mr_env_malloc.arg, p);
}

static bool
go_on(void *arg)
{
	return false;
}

static const char *
conflict(const char *a, const char *b)
{
	static char out[2][TXT_MAX_CONFLICT];
	mr_code		code[2] = {
		txt_meaning_conflict(&mr_env_malloc, a, strlen(a), b, strlen(b), out[0], &st),
		txt_meaning_conflict(&mr_env_malloc, b, strlen(b), a, strlen(a), out[1], &st)
	};

	return code[0] != MR_OK || code[1] != MR_OK ? "error" : (out[0][0] == '\0') != (out[1][0] == '\0') ? "not symmetrical" : out[0];
}

/* Words and bytes thrown together: nothing but an answer is asked for, the same both ways. */
static void
test_hostile(void)
{
	static const char *const pieces[] = {
		"who", "What", "n't", "'", "can't", "'s", "-5", "1,000", "1,00", "1.5.2", "10k", "5kg", "%", "$", "\xe2\x82\xac", "\xff", "\xf0\x9f\x98\x80", "\xc4\xb0", "\xc3", "U.S.A.", "C++", "hundred", "two", "twenty",
		"thousand", "million", "minus", "one", "IV", "XX", "and", "to", "from", "by", "than", "best", "way", "\xe6\xbc\xa2\xe5\xad\x97", "-", "/", "\n", "?", "Paris", "paris", "unable", "able", "edible", "inedible", ".",
		"99999999999999999999", "0", "007", "how", "long", "many", "not", "never", "\xcd\x81", "I", "IT", "(", ")", "3rd", "4x4", "\xe2\x80\x99t"
	};
	char		text[2][512];
	int			asymmetrical = 0,
				conflicts = 0;

	srand(7);
	for (int round = 0; round < 30000; round++)
	{
		const char *c;

		for (int k = 0; k < 2; k++)
		{
			int			n = rand() % 12;

			text[k][0] = '\0';
			for (int i = 0; i < n; i++)
			{
				strcat(text[k], pieces[rand() % (int) (sizeof(pieces) / sizeof(*pieces))]);
				if (rand() % 4)
					strcat(text[k], " ");
			}
			/* one in four: a byte of it becomes another */
			if (text[k][0] && rand() % 4 == 0)
				text[k][rand() % (int) strlen(text[k])] = (char) (rand() % 255 + 1);
		}
		c = conflict(text[0], text[1]);
		asymmetrical += strcmp(c, "not symmetrical") == 0;
		conflicts += c[0] != '\0';
		if (strcmp(conflict(text[0], text[0]), "") != 0)
			ok(false, "a text is like itself: %s", text[0]);
	}
	ok(asymmetrical == 0, "the other way round the answer is the same (%d of 30,000 not)", asymmetrical);
	ok(conflicts > 20000 && conflicts < 30000, "most of 30,000 pairs conflict (%d)", conflicts);
}

static void
test_long(void)
{
	char	   *a = malloc(1 << 20),
			   *b = malloc(1 << 20);
	uint8_t		key[2][16];

	memset(a, 'a', 1 << 20);
	memset(b, 'a', 1 << 20);
	b[(1 << 20) - 1] = 'b';
	a[(1 << 20) - 1] = b[(1 << 20) - 2] = '\0';
	ok(strcmp(conflict(a, a), "") == 0, "a long text and itself");
	ok(strcmp(conflict(a, b), "too long to be compared") == 0, "... and another");
	(void) txt_question_key(&mr_env_malloc, a, strlen(a), key[0], &st);
	(void) txt_question_key(&mr_env_malloc, b, strlen(b), key[1], &st);
	ok(memcmp(key[0], key[1], 16) != 0, "... have keys of their own");
	memset(a, '?', (1 << 20) - 1);
	(void) txt_question_key(&mr_env_malloc, a, strlen(a), key[0], &st);
	(void) txt_question_key(&mr_env_malloc, "", 0, key[1], &st);
	ok(memcmp(key[0], key[1], 16) == 0, "marks alone are an empty question");
	free(a);
	free(b);
}

static void
test_memory(void)
{
	const mr_env env = {few, release, go_on, NULL};
	char		out[TXT_MAX_CONFLICT];
	mr_code		code = MR_NOMEM;

	for (int n = 0; n < 5; n++)
	{
		left = n;
		code = txt_meaning_conflict(&env, "a b c", 5, "a b d", 5, out, &st);
		ok(code == (n < 4 ? MR_NOMEM : MR_OK), "with memory for %d buffers: %s", n, n < 4 ? "out of memory" : "an answer");
	}
}

static void
test_stems(void)
{
	static const struct
	{
		const char *a,
				   *b;
		bool		deep,
					same;
	}			pairs[] = {
		{"cats", "cat", false, true}, {"glass", "glas", false, false}, {"virus", "viru", false, false}, {"cities", "city", false, true}, {"watches", "watch", false, true},
		{"boxes", "box", false, true}, {"stopped", "stop", false, true}, {"filled", "fill", false, true}, {"filled", "file", false, false}, {"cancelled", "cancel", false, true},
		{"charging", "charge", false, true}, {"tried", "try", false, true}, {"install", "installation", false, false}, {"install", "installation", true, true}, {"treat", "treatment", true, true},
		{"legal", "legally", true, true}, {"iran", "iraq", true, false}, {"austria", "australia", true, false}, {"niger", "nigeria", true, false}, {"s", "ss", false, false}, {"", "s", false, false}
	};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++)
	{
		char		s[TXT_MAX_STEM],
					t[TXT_MAX_STEM];
		size_t		m = txt_stem(pairs[i].a, strlen(pairs[i].a), pairs[i].deep, s),
					n = txt_stem(pairs[i].b, strlen(pairs[i].b), pairs[i].deep, t);

		ok((m == n && memcmp(s, t, m) == 0) == pairs[i].same, "%s and %s%s", pairs[i].a, pairs[i].b, pairs[i].same ? "" : ": not the same");
	}
}

int
main(void)
{
	test_hostile();
	test_long();
	test_memory();
	test_stems();
	return done_testing();
}
