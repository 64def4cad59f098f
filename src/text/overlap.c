/*
 * overlap.c
 *	  Words that two texts share.  See overlap.h.
 */
#include "text/overlap.h"

#include <string.h>

#include "text/words.h"

/* Both texts cut, in one dictionary. */
typedef struct two_texts
{
	txt_dictionary d;
	txt_words	candidate,
				reference;
} two_texts;

static mr_code
cut_both(two_texts *t, const mr_env *env, txt_word_rule rule, const txt_pair *pair, mr_status *st)
{
	memset(t, 0, sizeof(*t));
	txt_dictionary_init(&t->d, env, st);
	if (txt_words_of(&t->d, rule, pair->candidate, pair->candidate_len, &t->candidate) != MR_OK)
		return st->code;
	return txt_words_of(&t->d, rule, pair->reference, pair->reference_len, &t->reference);
}

static void
free_both(two_texts *t)
{
	txt_words_free(&t->d, &t->candidate);
	txt_words_free(&t->d, &t->reference);
	txt_dictionary_free(&t->d);
}

static txt_overlap
overlap_of(size_t common, size_t n_candidate, size_t n_reference)
{
	txt_overlap o = {0, 0, 0};

	if (common > 0)
	{
		o.precision = (double) common / n_candidate;
		o.recall = (double) common / n_reference;
		o.f1 = 2 * o.precision * o.recall / (o.precision + o.recall);
	}
	return o;
}

/* ---- the longest common subsequence ---- */

/* Where each word of a list occurs: at[start[w] .. start[w + 1]). */
typedef struct places
{
	uint32_t   *start,
			   *at;
} places;

static void
find_places(const int32_t *word, size_t n, size_t n_words, places *p)
{
	memset(p->start, 0, (n_words + 1) * sizeof(uint32_t));
	for (size_t i = 0; i < n; i++)
		p->start[word[i] + 1]++;
	for (size_t w = 0; w < n_words; w++)
		p->start[w + 1] += p->start[w];
	for (size_t i = 0; i < n; i++)
		p->at[p->start[word[i]]++] = (uint32_t) i;
	for (size_t w = n_words; w > 0; w--)	/* each has moved to its successor's */
		p->start[w] = p->start[w - 1];
	p->start[0] = 0;
}

/*
 * Hyyro's bit-parallel algorithm (2004): a column of the table is a bit vector v
 * over the words of a, in which each 0 is a step up; a word of b turns it into
 * (v + (v & m)) | (v & ~m), m where a has that word.  64 cells an operation.
 */
static mr_code
lcs(const two_texts *t, const int32_t *a, size_t na, const int32_t *b, size_t nb, size_t *out)
{
	const mr_env *env = t->d.env;
	size_t		n = (na + 63) / 64;
	uint64_t   *v = mr_alloc(env, 2 * n * sizeof(uint64_t));
	uint64_t   *m = v ? v + n : NULL;
	places		p = {
		mr_alloc(env, (t->d.n + 1) * sizeof(uint32_t)),
		mr_alloc(env, na * sizeof(uint32_t))
	};
	mr_code		code = MR_OK;
	size_t		work = 0;

	if (v == NULL || p.start == NULL || p.at == NULL)
		code = mr_fail(t->d.st, MR_NOMEM, "out of memory");
	else
	{
		find_places(a, na, t->d.n, &p);
		memset(v, 0xff, n * sizeof(uint64_t));
		memset(m, 0, n * sizeof(uint64_t));
	}
	for (size_t j = 0; j < nb && code == MR_OK; j++)
	{
		const uint32_t *from = p.at + p.start[b[j]],
				   *to = p.at + p.start[b[j] + 1];
		unsigned	carry = 0;

		if (from == to)			/* not in a: v stays */
			continue;
		for (const uint32_t *at = from; at < to; at++)
			m[*at / 64] |= UINT64_C(1) << (*at % 64);
		for (size_t i = *from / 64; i < n; i++)
		{
			uint64_t	x = v[i] & m[i];
			uint64_t	sum;
			unsigned	over = __builtin_add_overflow(v[i], x, &sum);

			over |= __builtin_add_overflow(sum, (uint64_t) carry, &sum);
			carry = over;
			v[i] = sum | (v[i] & ~m[i]);
		}
		for (const uint32_t *at = from; at < to; at++)
			m[*at / 64] = 0;
		work += n + (size_t) (to - from);
		if (work > 1 << 20)
		{
			work = 0;
			if (mr_interrupted(env))
				code = mr_fail(t->d.st, MR_CANCELED, "canceled");
		}
	}
	*out = 0;
	for (size_t i = 0; i < na && code == MR_OK; i++)
		*out += !(v[i / 64] >> (i % 64) & 1);
	mr_free(env, v);
	mr_free(env, p.start);
	mr_free(env, p.at);
	return code;
}

mr_code
txt_rouge_l(const mr_env *env, const txt_pair *pair, txt_overlap *out, mr_status *st)
{
	two_texts	t;
	mr_code		code = cut_both(&t, env, TXT_WORDS_ROUGE, pair, st);
	const int32_t *a = t.candidate.id,
			   *b = t.reference.id;
	size_t		na = t.candidate.n,
				nb = t.reference.n,
				common = 0,
				same = 0;

	/* What both begin and end with is in the subsequence. */
	for (; na > 0 && nb > 0 && a[0] == b[0]; a++, b++, na--, nb--)
		same++;
	for (; na > 0 && nb > 0 && a[na - 1] == b[nb - 1]; na--, nb--)
		same++;
	if (code == MR_OK && na > 0 && nb > 0)
		code = na >= nb ? lcs(&t, a, na, b, nb, &common) : lcs(&t, b, nb, a, na, &common);
	*out = overlap_of(same + common, t.candidate.n, t.reference.n);
	free_both(&t);
	return code;
}

/* ---- words in common ---- */

static mr_code
count_common(const two_texts *t, size_t *common)
{
	uint32_t   *left;			/* of the reference's, by word */
	mr_code		code = MR_OK;

	*common = 0;
	if (t->d.n == 0)
		return MR_OK;
	left = mr_alloc(t->d.env, t->d.n * sizeof(uint32_t));
	if (left == NULL)
		return mr_fail(t->d.st, MR_NOMEM, "out of memory");
	memset(left, 0, t->d.n * sizeof(uint32_t));
	for (size_t i = 0; i < t->reference.n; i++)
		left[t->reference.id[i]]++;
	for (size_t i = 0; i < t->candidate.n && code == MR_OK; i++)
	{
		if (left[t->candidate.id[i]] > 0)
		{
			left[t->candidate.id[i]]--;
			++*common;
		}
		if (i % 0x10000 == 0 && mr_interrupted(t->d.env))
			code = mr_fail(t->d.st, MR_CANCELED, "canceled");
	}
	mr_free(t->d.env, left);
	return code;
}

mr_code
txt_token_overlap(const mr_env *env, const txt_pair *pair, txt_overlap *out, bool *equal, mr_status *st)
{
	two_texts	t;
	mr_code		code = cut_both(&t, env, TXT_WORDS_SQUAD, pair, st);
	size_t		common = 0;

	if (code == MR_OK)
		code = count_common(&t, &common);
	*equal = t.candidate.n == t.reference.n &&
		(t.candidate.n == 0 || memcmp(t.candidate.id, t.reference.id, t.candidate.n * sizeof(int32_t)) == 0);
	*out = t.candidate.n + t.reference.n == 0 ? (txt_overlap) {1, 1, 1} : overlap_of(common, t.candidate.n, t.reference.n);
	free_both(&t);
	return code;
}
