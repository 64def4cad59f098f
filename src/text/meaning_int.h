/*
 * meaning_int.h
 *	  What the files of txt_meaning_conflict() share: a question as words.
 */
#ifndef MILLRACE_TEXT_MEANING_INT_H
#define MILLRACE_TEXT_MEANING_INT_H

#include "core/env.h"
#include "core/status.h"
#include "text/meaning_words.h"

#define TXT_MAX_MWORDS 256		/* of a question; longer ones are never the same unless they are equal */

typedef struct txt_mword
{
	char	   *text;			/* in small letters, without 's */
	size_t		len;
	const txt_word_entry *entry;
	double		value;			/* of a number */
	bool		number;
	bool		one;			/* "one", which may be an article */
	bool		name;			/* a capital within the question, or letters and digits */
	bool		negation;
	bool		hard;			/* known words that here are not loose: "best" of a laptop, names in capitals */
	bool		joined;			/* to the word before, by nothing or a blank */
	bool		in_series;		/* after "and", "or", "vs" */
	txt_way		way;			/* of the preposition before it */
	int			match;			/* index in the other question; -1: none */
} txt_mword;

typedef struct txt_mwords
{
	txt_mword  *word;
	int			n;
	char	   *buffer;			/* the texts */
	int			negations;
	txt_asks	asks;
	txt_modal	modal;			/* TXT_MODAL_NONE unless it is answered by yes or no */
	bool		too_long;
} txt_mwords;

/* meaning_cut.c; MR_NOMEM, MR_CANCELED.  To be freed whatever came of it. */
extern mr_code txt_cut_question(const mr_env *env, const char *text, size_t len, txt_mwords *q, mr_status *st);
extern void txt_free_question(const mr_env *env, txt_mwords *q);

/* Is it a word of a list, which blanks part? */
extern bool txt_listed(const char *list, const txt_mword *w);

/* meaning_asks.c: sets asks and modal. */
extern void txt_find_asks(txt_mwords *q);

/* Do they ask for different things?  Then conflict says so. */
extern bool txt_asks_conflict(const txt_mwords *a, const txt_mwords *b, char *conflict);

/* May a word of q be missing in the other question? */
extern bool txt_may_be_missing(const txt_mwords *q, const txt_mword *w, const txt_mwords *other);

/* meaning_order.c: the same words, in other parts? */
extern bool txt_order_conflict(const txt_mwords *a, const txt_mwords *b, char *conflict);

#endif							/* MILLRACE_TEXT_MEANING_INT_H */
