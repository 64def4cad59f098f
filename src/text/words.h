/*
 * words.h
 *	  Texts as lists of numbered words, for figures that compare words.
 *
 * Memory is of the dictionary's environment; txt_words_free() and
 * txt_dictionary_free() give it back, whatever failed before.
 */
#ifndef MILLRACE_TEXT_WORDS_H
#define MILLRACE_TEXT_WORDS_H

#include "text/text.h"

/* How a text is cut. */
typedef enum txt_word_rule
{
	/* rouge-score's default: lower case, runs of a-z and 0-9, no stemming */
	TXT_WORDS_ROUGE,
	/* SQuAD's: lower case, no ASCII punctuation, no a, an, the; what spaces part */
	TXT_WORDS_SQUAD,
	/* lower case, runs of letters, marks and digits; a Chinese, Japanese or Thai character by itself */
	TXT_WORDS_PLAIN
} txt_word_rule;

typedef struct txt_dictionary
{
	const mr_env *env;
	mr_status  *st;
	int32_t	   *slot;			/* open addressing: word or TXT_NO_WORD */
	size_t		n_slots;		/* a power of two */
	struct txt_word
	{
		const char *data;
		uint32_t	len;
		uint32_t	hash;
	}		   *word;			/* by number, from 0 in the order of their coming */
	size_t		n,
				size;
	uint32_t	steps;			/* since interrupts were looked for */
	bool		closed;			/* words that are not in it get TXT_NO_WORD and do not enter */
} txt_dictionary;

#define TXT_NO_WORD (-1)

typedef struct txt_words
{
	int32_t    *id;
	size_t		n,
				size;
	char	   *text;			/* normalized; words of the dictionary lie in it */
} txt_words;

extern void txt_dictionary_init(txt_dictionary *d, const mr_env *env, mr_status *st);
extern void txt_dictionary_free(txt_dictionary *d);

/* A word's number, or TXT_NO_WORD. */
extern int32_t txt_find_word(const txt_dictionary *d, const char *data, size_t len);

/* MR_NOMEM, MR_CANCELED, MR_LIMIT (past 1 GB).  words must outlive the dictionary's use. */
extern mr_code txt_words_of(txt_dictionary *d, txt_word_rule rule, const char *text, size_t len, txt_words *out);
extern void txt_words_free(txt_dictionary *d, txt_words *w);

#endif							/* MILLRACE_TEXT_WORDS_H */
