/*
 * text_stats.h
 *	  Plain figures of a text: length, repetition, language, refusal.
 */
#ifndef MILLRACE_TEXT_STATS_H
#define MILLRACE_TEXT_STATS_H

#include "text/words.h"

typedef struct txt_phrase
{
	const char *text;
	size_t		len;
} txt_phrase;

typedef struct txt_stats
{
	int64_t		characters;		/* code points */
	int64_t		words;			/* TXT_WORDS_PLAIN's */
	int64_t		sentences;		/* ended by . ! ? and their like, or by the text's end */
	double		distinct_words;	/* different words / words; 1 for a text without */
	double		repetition;		/* of its runs of three words, the share that stood there before; 0 below three */
	const char *language;		/* ISO 639-1, static; NULL: no guess */
	double		confidence;		/* of that guess, 0 .. 1 */
	int			phrase;			/* index of the phrase that occurs first; -1: none */
} txt_stats;

/*
 * Phrases are found as words in a row, whatever their case and the punctuation
 * between them.  Time and memory are linear in the text.
 */
extern mr_code txt_stats_of(const mr_env *env, const char *text, size_t len, const txt_phrase *phrases, int n_phrases,
							txt_stats *out, mr_status *st);

/* ---- language.c ---- */

/*
 * The language of words cut by TXT_WORDS_PLAIN, by script, function words and
 * letters; count: how often each of the dictionary's words occurs.
 */
extern const char *txt_language_of(const txt_dictionary *d, const uint32_t *count, double *confidence);

#endif							/* MILLRACE_TEXT_STATS_H */
