/*
 * text_stats.c
 *	  Plain figures of a text.  See text_stats.h.
 */
#include "text/text_stats.h"

#include "text/text_int.h"

/* Sentence marks of scripts in wide use. */
static bool
ends_sentence(int32_t c)
{
	return c == '.' || c == '!' || c == '?' || c == 0x2026 || c == 0x3002 || c == 0xff01 || c == 0xff1f || c == 0x0964 ||
		c == 0x06d4 || c == 0x061f;
}

/* A full stop between letters or digits ends nothing: "3.5", "example.org"; wide marks always do. */
static mr_code
count_characters(const mr_env *env, const char *text, size_t len, txt_stats *out, mr_status *st)
{
	bool		open = false,	/* a sentence has begun, */
				marked = false;	/* and a mark came that may end it */
	int			n;

	for (const char *p = text; p < text + len; p += n)
	{
		int32_t		c = txt_decode(p, text + len, &n);

		if ((++out->characters & 0x7fff) == 0 && mr_interrupted(env))
			return mr_fail(st, MR_CANCELED, "canceled");
		if (ends_sentence(c))
			marked = open;
		else if (marked && (txt_is_space(c) || p[-1] & 0x80))
		{
			out->sentences++;
			open = marked = false;
		}
		if (txt_is_letter(c) || txt_is_number(c))
		{
			open = true;
			marked = false;
		}
	}
	out->sentences += open;
	return MR_OK;
}

/* How many runs of three words are different ones. */
static mr_code
distinct_runs(const mr_env *env, const int32_t *id, size_t n, size_t *distinct, mr_status *st)
{
	size_t		n_slots = 16;
	uint32_t   *slot;			/* 1 + where the run begins; 0: free */

	while (n_slots < 2 * n)
		n_slots *= 2;
	slot = mr_alloc(env, n_slots * sizeof(uint32_t));
	if (slot == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory");
	memset(slot, 0, n_slots * sizeof(uint32_t));
	*distinct = 0;
	for (size_t i = 0; i + 3 <= n; i++)
	{
		uint64_t	key = ((uint64_t) id[i] * 0x9e3779b1u + (uint32_t) id[i + 1]) * 0x85ebca77u + (uint32_t) id[i + 2];
		size_t		s = txt_hash(key) & (n_slots - 1);

		while (slot[s] != 0 && memcmp(id + slot[s] - 1, id + i, 3 * sizeof(int32_t)) != 0)
			s = (s + 1) & (n_slots - 1);
		if (slot[s] == 0)
		{
			slot[s] = (uint32_t) i + 1;
			++*distinct;
		}
		if ((i & 0x7fff) == 0x7fff && mr_interrupted(env))
		{
			mr_free(env, slot);
			return mr_fail(st, MR_CANCELED, "canceled");
		}
	}
	mr_free(env, slot);
	return MR_OK;
}

/* Where the phrase's words stand in a row, or -1.  The dictionary is closed. */
static mr_code
find_phrase(txt_dictionary *d, const txt_words *w, const txt_phrase *phrase, int64_t *at)
{
	txt_words	p;
	mr_code		code = txt_words_of(d, TXT_WORDS_PLAIN, phrase->text, phrase->len, &p);

	*at = -1;
	if (code == MR_OK && p.n > 0 && p.id[0] != TXT_NO_WORD)
		for (size_t i = 0; *at < 0 && i + p.n <= w->n; i++)
			if (w->id[i] == p.id[0] && memcmp(w->id + i, p.id, p.n * sizeof(int32_t)) == 0)
				*at = (int64_t) i;
	txt_words_free(d, &p);
	return code;
}

static mr_code
find_phrases(txt_dictionary *d, const txt_words *w, const txt_phrase *phrases, int n, int *found)
{
	int64_t		first = -1,
				at;

	d->closed = true;
	for (int i = 0; i < n; i++)
	{
		if (find_phrase(d, w, &phrases[i], &at) != MR_OK)
			return d->st->code;
		if (at >= 0 && (first < 0 || at < first))
		{
			first = at;
			*found = i;
		}
	}
	return MR_OK;
}

static mr_code
figures_of_words(txt_dictionary *d, const txt_words *w, const txt_phrase *phrases, int n_phrases, txt_stats *out)
{
	size_t		distinct = 0;
	uint32_t   *count;

	out->words = (int64_t) w->n;
	out->distinct_words = w->n > 0 ? (double) d->n / w->n : 1;
	if (w->n >= 3)
	{
		if (distinct_runs(d->env, w->id, w->n, &distinct, d->st) != MR_OK)
			return d->st->code;
		out->repetition = 1 - (double) distinct / (w->n - 2);
	}
	count = mr_alloc(d->env, (d->n + 1) * sizeof(uint32_t));
	if (count == NULL)
		return mr_fail(d->st, MR_NOMEM, "out of memory");
	memset(count, 0, (d->n + 1) * sizeof(uint32_t));
	for (size_t i = 0; i < w->n; i++)
		count[w->id[i]]++;
	out->language = txt_language_of(d, count, &out->confidence);
	mr_free(d->env, count);
	return find_phrases(d, w, phrases, n_phrases, &out->phrase);
}

mr_code
txt_stats_of(const mr_env *env, const char *text, size_t len, const txt_phrase *phrases, int n_phrases, txt_stats *out,
			 mr_status *st)
{
	txt_dictionary d;
	txt_words	w = {0};
	mr_code		code;

	*out = (txt_stats) {.phrase = -1};
	txt_dictionary_init(&d, env, st);
	code = count_characters(env, text, len, out, st);
	if (code == MR_OK)
		code = txt_words_of(&d, TXT_WORDS_PLAIN, text, len, &w);
	if (code == MR_OK)
		code = figures_of_words(&d, &w, phrases, n_phrases, out);
	txt_words_free(&d, &w);
	txt_dictionary_free(&d);
	return code;
}
