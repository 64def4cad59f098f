/*
 * test_text_score.c
 *	  BERTScore's matching on every instruction set, overlap of words, text
 *	  statistics: figures worked out by hand or the plain way, bad bytes, memory
 *	  that ends, interrupts.  Against the Python packages: t/test_text_score.py.
 */
#include "text/bert_score.h"
#include "text/overlap.h"
#include "text/text_stats.h"
#include "unit.h"

#include <math.h>

static mr_status st;

static uint32_t seed = 1;

static float
noise(void)
{
	seed = seed * 1664525u + 1013904223u;
	return (float) (seed >> 8) / (1 << 23) - 1;
}

static float *
rows_of(int n, int width)
{
	float	   *x = malloc((size_t) n * width * sizeof(float));

	for (int i = 0; i < n * width; i++)
		x[i] = noise();
	return x;
}

static txt_vectors
text_of(const float *hidden, int n, int width)
{
	txt_token  *token = calloc((size_t) n, sizeof(txt_token));
	float	   *rows = malloc((size_t) n * txt_score_stride(width) * sizeof(float));
	float	   *weight = malloc((size_t) n * sizeof(float));
	txt_vectors v = {.n = n, .rows = rows, .weight = weight};

	for (int i = 0; i < n; i++)
		token[i] = (txt_token) {i == 0 ? 101 : i == n - 1 ? 102 : 1000 + i, (uint32_t) i, (uint32_t) (i == 0 || i == n - 1 ? i : i + 1)};
	txt_score_normalize(hidden, n, width, rows);
	v.empty = txt_score_weights(token, n, NULL, weight);
	free(token);
	return v;
}

static void
free_text(txt_vectors v)
{
	free((void *) v.rows);
	free((void *) v.weight);
}

static double
cosine(const float *a, const float *b, int n)
{
	double		ab = 0,
				aa = 0,
				bb = 0;

	for (int i = 0; i < n; i++)
	{
		ab += (double) a[i] * b[i];
		aa += (double) a[i] * a[i];
		bb += (double) b[i] * b[i];
	}
	return ab / sqrt(aa * bb);
}

/* The mean of the best cosines, none below 0, of all rows but the first and the last. */
static double
plain(const float *a, int na, const float *b, int nb, int width)
{
	double		sum = 0;

	for (int i = 1; i < na - 1; i++)
	{
		double		best = 0;

		for (int j = 0; j < nb; j++)
			best = fmax(best, cosine(a + (size_t) i * width, b + (size_t) j * width, width));
		sum += best;
	}
	return sum / (na - 2);
}

static void
test_matching(nn_isa isa)
{
	static const int sizes[][3] = {{3, 3, 384}, {3, 9, 20}, {5, 4, 3}, {18, 7, 384}, {70, 131, 384}, {33, 66, 768}};
	double		worst = 0;
	bool		mirrored = true,
				alone = true;

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
	{
		int			na = sizes[s][0],
					nb = sizes[s][1],
					width = sizes[s][2],
					stride = txt_score_stride(width);
		float	   *x = rows_of(na, width),
				   *y = rows_of(nb, width);
		txt_vectors a = text_of(x, na, width),
					b = text_of(y, nb, width);
		float		best[256],
					one[2];
		txt_score	ab,
					ba;
		double		p = plain(x, na, y, nb, width),
					r = plain(y, nb, x, na, width);

		ok(txt_score_pair(&mr_env_malloc, isa, &a, &b, stride, best, &ab, &st) == MR_OK, "%s: %d tokens and %d of %d numbers",
		   nn_isa_name(isa), na, nb, width);
		/* the last row of a alone, wherever it stood in a tile */
		one[0] = 0;
		for (int j = 0; j < nb; j++)
		{
			txt_vectors row = {1, false, a.rows + (size_t) (na - 1) * stride, (float[]) {1}},
						other = {1, false, b.rows + (size_t) j * stride, (float[]) {1}};
			float		two[2];
			txt_score	cell;

			txt_score_pair(&mr_env_malloc, isa, &row, &other, stride, two, &cell, &st);
			one[0] = fmaxf(one[0], cell.precision);
		}
		alone = alone && one[0] == best[na - 1];
		txt_score_pair(&mr_env_malloc, isa, &b, &a, stride, best, &ba, &st);
		mirrored = mirrored && ab.precision == ba.recall && ab.recall == ba.precision && ab.f1 == ba.f1;
		worst = fmax(worst, fmax(fabs(ab.precision - p), fabs(ab.recall - r)));
		worst = fmax(worst, fabs(ab.f1 - 2 * p * r / (p + r)));
		free(x);
		free(y);
		free_text(a);
		free_text(b);
	}
	ok(worst < 2e-6, "%s: as by hand within %g", nn_isa_name(isa), worst);
	ok(mirrored, "%s: precision and recall change places bit for bit", nn_isa_name(isa));
	ok(alone, "%s: a row's best is the same bits in every tile", nn_isa_name(isa));
}

static bool
always(void *arg)
{
	return true;
}

static void
test_scores(void)
{
	static const txt_token sep_inside[] = {{101, 0, 0}, {7, 0, 1}, {102, 1, 6}, {8, 7, 8}, {102, 8, 8}};
	static const float table[] = {0, 0.5f, 2};
	const txt_idf idf = {table, 3, 3};
	float		w[5];
	float		row[16] = {1},
				zero[16] = {0},
				best[4];
	txt_vectors full = {1, false, row, (float[]) {1}},
				none = {2, true, row, (float[]) {0, 0}},
				unweighted = {1, false, row, (float[]) {0}};
	mr_env		stop = mr_env_malloc;
	txt_score	s;

	ok(!txt_score_weights(sep_inside, 5, NULL, w) && w[0] == 0 && w[1] == 0.5f && w[2] == 0 && w[3] == 0.5f && w[4] == 0,
	   "the template's tokens count nothing, nor their like within");
	ok(!txt_score_weights((txt_token[]) {{1, 0, 1}, {2, 1, 2}, {9, 2, 3}}, 3, &idf, w) &&
	   w[0] == (float) (0.5 / 5.5) && w[1] == (float) (2 / 5.5) && w[2] == (float) (3 / 5.5), "weights by id, and of ids unseen");
	ok(txt_score_weights((txt_token[]) {{101, 0, 0}, {102, 0, 0}}, 2, NULL, w), "nothing but the template is an empty text");
	txt_score_pair(&mr_env_malloc, nn_isa_portable, &full, &none, 16, best, &s, &st);
	ok(s.precision == 0 && s.recall == 0 && s.f1 == 0, "an empty text scores 0");
	txt_score_pair(&mr_env_malloc, nn_isa_portable, &unweighted, &unweighted, 16, best, &s, &st);
	ok(s.precision == 0 && s.recall == 0 && s.f1 == 0, "so does one whose words all weigh nothing");
	txt_score_normalize(zero, 1, 16, row);
	ok(row[0] == 0, "a vector of zeros stays one");
	stop.interrupted = always;
	ok(txt_score_pair(&stop, nn_isa_portable, &full, &full, 16, best, &s, &st) == MR_CANCELED, "matching can be canceled");
	s = txt_score_rescale((txt_score) {0.8f, 0.6f, 0.7f}, &(txt_score) {0.6f, 0.6f, 0.5f});
	ok(fabsf(s.precision - 0.5f) < 1e-6f && fabsf(s.recall) < 1e-6f && fabsf(s.f1 - 0.4f) < 1e-6f, "rescaling, each figure by its own baseline");
}

static void
test_strip(void)
{
	static const char *const texts[][2] = {
		{"", ""}, {" \t\n", ""}, {" a b\x1c", "a b"}, {"\xc2\xa0x\xe3\x80\x80", "x"}, {"\xe2\x80\x8b x", "\xe2\x80\x8b x"}, {"x \xff", "x \xff"}
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		size_t		from,
					to;

		txt_strip(texts[i][0], strlen(texts[i][0]), &from, &to);
		ok(to - from == strlen(texts[i][1]) && memcmp(texts[i][0] + from, texts[i][1], to - from) == 0, "str.strip(), text %zu", i);
	}
}

static txt_pair
pair_of(const char *a, const char *b)
{
	return (txt_pair) {a, strlen(a), b, strlen(b)};
}

static void
test_overlap(void)
{
	txt_overlap o;
	bool		equal;
	txt_pair	p = pair_of("The quick, brown FOX jumped!", "the brown dog jumped");

	ok(txt_rouge_l(&mr_env_malloc, &p, &o, &st) == MR_OK && fabs(o.precision - 0.6) < 1e-12 && fabs(o.recall - 0.75) < 1e-12 &&
	   fabs(o.f1 - 2 * 0.6 * 0.75 / 1.35) < 1e-12, "rouge-l of three words in order");
	ok(txt_token_overlap(&mr_env_malloc, &p, &o, &equal, &st) == MR_OK && !equal && fabs(o.precision - 0.5) < 1e-12 &&
	   fabs(o.recall - 2.0 / 3) < 1e-12, "words in common without articles");
	p = pair_of("An answer.", "the  ANSWER");
	ok(txt_token_overlap(&mr_env_malloc, &p, &o, &equal, &st) == MR_OK && equal && o.f1 == 1, "equal but for case, articles and points");
	p = pair_of("the", "");
	ok(txt_token_overlap(&mr_env_malloc, &p, &o, &equal, &st) == MR_OK && equal && o.f1 == 1, "two texts without a word");
	ok(txt_rouge_l(&mr_env_malloc, &p, &o, &st) == MR_OK && o.f1 == 0, "rouge-l has nothing to share there");
}

/* The table of the textbook, for the bit vectors. */
static size_t
plain_lcs(const char *a, size_t na, const char *b, size_t nb)
{
	static int	cell[512][512];

	for (size_t i = 0; i <= na; i++)
		for (size_t j = 0; j <= nb; j++)
			cell[i][j] = i == 0 || j == 0 ? 0 : a[i - 1] == b[j - 1] ? cell[i - 1][j - 1] + 1 :
				cell[i - 1][j] > cell[i][j - 1] ? cell[i - 1][j] : cell[i][j - 1];
	return (size_t) cell[na][nb];
}

static void
test_subsequence(void)
{
	bool		right = true;

	for (int round = 0; round < 60; round++)
	{
		char		a[512],
					b[512],
					spaced[2][1024];
		size_t		n[2] = {1 + (size_t) ((noise() + 1) * 200), 1 + (size_t) ((noise() + 1) * 200)};
		int			letters = 2 + round % 20;
		txt_overlap o;
		txt_pair	p = {spaced[0], 2 * n[0], spaced[1], 2 * n[1]};

		for (int t = 0; t < 2; t++)
			for (size_t i = 0; i < n[t]; i++)
			{
				char		c = (char) ('a' + (int) ((noise() + 1) * 0.4999 * letters));

				(t ? b : a)[i] = spaced[t][2 * i] = c;
				spaced[t][2 * i + 1] = ' ';
			}
		right = txt_rouge_l(&mr_env_malloc, &p, &o, &st) == MR_OK &&
			fabs(o.precision * n[0] - plain_lcs(a, n[0], b, n[1])) < 1e-6 && right;
	}
	ok(right, "the longest common subsequence of 60 pairs, up to 400 words");
}

static void
test_stats(void)
{
	static const txt_phrase phrases[] = {{"i cannot", 8}, {"as an AI", 8}, {"", 0}};
	static const char text[] = "As an \xe2\x80\x9c" "AI\xe2\x80\x9d, I cannot say. It's 3.5 or\nexample.org? No no no no no";
	txt_stats	s;

	ok(txt_stats_of(&mr_env_malloc, text, sizeof(text) - 1, phrases, 3, &s, &st) == MR_OK, "figures of a text");
	ok(s.words == 17 && s.sentences == 3 && s.characters == (int64_t) sizeof(text) - 1 - 4, "%d words, %d sentences, %d characters",
	   (int) s.words, (int) s.sentences, (int) s.characters);
	ok(s.phrase == 1, "the phrase that comes first");
	ok(fabs(s.repetition - 2.0 / 15) < 1e-12 && fabs(s.distinct_words - 13.0 / 17) < 1e-12, "repetition %g, distinct %g", s.repetition, s.distinct_words);
	ok(s.language && strcmp(s.language, "en") == 0, "English");
	ok(txt_stats_of(&mr_env_malloc, "", 0, phrases, 3, &s, &st) == MR_OK && s.words == 0 && s.distinct_words == 1 && s.language == NULL &&
	   s.phrase == -1, "of an empty text");
	ok(txt_stats_of(&mr_env_malloc, "\xe6\x88\x91\xe4\xb8\x8d\xe7\x9f\xa5\xe9\x81\x93\xe3\x80\x82", 15, NULL, 0, &s, &st) == MR_OK && s.words == 4 &&
	   s.sentences == 1 && strcmp(s.language, "zh") == 0, "of Chinese: a character a word");
}

/* An environment whose memory ends, or which is interrupted, at the n-th question. */
typedef struct meagre
{
	int			left;
	int			live;
	bool		interrupt;
} meagre;

static void *
meagre_alloc(void *arg, size_t size)
{
	meagre	   *m = arg;

	if (!m->interrupt && m->left-- <= 0)
		return NULL;
	m->live++;
	return mr_env_malloc.alloc(NULL, size);
}

static void
meagre_release(void *arg, void *ptr)
{
	((meagre *) arg)->live--;
	mr_env_malloc.release(NULL, ptr);
}

static bool
meagre_interrupted(void *arg)
{
	meagre	   *m = arg;

	return m->interrupt && m->left-- <= 0;
}

static void
test_failures(void)
{
	static const txt_phrase phrase = {"jumped over", 11};
	char		text[4096];
	bool		clean = true;
	int			codes[2] = {0, 0};

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char) ((noise() + 1) * 127.99);	/* bytes that are no UTF-8 */
	for (int interrupt = 0; interrupt < 2; interrupt++)
		for (int at = 0; at < 60; at++)
			for (int f = 0; f < 3; f++)
			{
				meagre		m = {at, 0, interrupt};
				mr_env		env = {meagre_alloc, meagre_release, meagre_interrupted, &m};
				txt_pair	p = {text, 2000, text + 100, 3996};
				txt_overlap o;
				txt_stats	s;
				bool		equal;
				mr_code		code = f == 0 ? txt_rouge_l(&env, &p, &o, &st) :
					f == 1 ? txt_token_overlap(&env, &p, &o, &equal, &st) : txt_stats_of(&env, text, sizeof(text), &phrase, 1, &s, &st);

				clean = clean && m.live == 0 && (code == MR_OK || code == (interrupt ? MR_CANCELED : MR_NOMEM));
				codes[interrupt] += code != MR_OK;
			}
	ok(clean && codes[0] > 0 && codes[1] > 0, "bytes at random; memory and patience that end: %d and %d times, nothing leaks", codes[0], codes[1]);
}

int
main(void)
{
	static const nn_isa isas[] = {nn_isa_portable, nn_isa_avx2, nn_isa_avx512};

	for (int i = 0; i < 3; i++)
		if (nn_isa_available(isas[i]))
			test_matching(isas[i]);
		else
			skip("instruction set not available");
	test_scores();
	test_strip();
	test_overlap();
	test_subsequence();
	test_stats();
	test_failures();
	return done_testing();
}
