/*
 * meaning_words.h
 *	  What single English words are to txt_meaning_conflict().
 */
#ifndef MILLRACE_TEXT_MEANING_WORDS_H
#define MILLRACE_TEXT_MEANING_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a question asks for. */
typedef enum txt_asks
{
	TXT_ASKS_NOTHING,			/* an order, or a few words */
	TXT_ASKS_YES_NO,
	TXT_ASKS_WHAT,
	TXT_ASKS_WHO,
	TXT_ASKS_WHEN,
	TXT_ASKS_WHERE,
	TXT_ASKS_WHY,
	TXT_ASKS_HOW,
	TXT_ASKS_NUMBER,			/* how many */
	TXT_ASKS_AMOUNT,			/* how much */
	TXT_ASKS_LENGTH,			/* how long */
	TXT_ASKS_DEGREE				/* how far, how old … */
} txt_asks;

/* A word is one of these, or unknown: then it must stand in both questions. */
typedef enum txt_word_kind
{
	TXT_WORD_UNKNOWN,
	TXT_WORD_LOOSE,				/* may be missing: articles, auxiliary verbs, what frames a question */
	TXT_WORD_FRAMING,			/* loose before a word that is framed: best way */
	TXT_WORD_NEGATION,
	TXT_WORD_NUMBER,			/* value */
	TXT_WORD_SCALE,				/* value, by which a number before it is multiplied */
	TXT_WORD_ASKS,				/* asks: who, when … */
	TXT_WORD_SAID				/* loose, and asks what "what" before it does not say: what time, which city, what causes */
} txt_word_kind;

/* Prepositions that say which way. */
typedef enum txt_way
{
	TXT_WAY_NONE,
	TXT_WAY_PLAIN,				/* of, in, for, with …: one is often said for another */
	TXT_WAY_TO,
	TXT_WAY_FROM,
	TXT_WAY_BY,
	TXT_WAY_ABOUT,
	TXT_WAY_THAN
} txt_way;

/* Of a yes-or-no question: may, should, must it be? */
typedef enum txt_modal
{
	TXT_MODAL_NONE,
	TXT_MODAL_CAN,
	TXT_MODAL_SHOULD,
	TXT_MODAL_MUST,
	TXT_MODAL_WILL
} txt_modal;

typedef struct txt_word_entry
{
	txt_word_kind kind;
	txt_asks	asks;
	txt_way		way;
	txt_modal	modal;
	bool		framed;
	uint8_t		acts;			/* a loose verb; words of one number may stand for each other; 0: none */
	double		value;
	uint16_t	same;			/* words of one number say the same; 0: none */
	uint16_t	opposite;		/* words of 2k and 2k + 1 are opposites, k > 0; 0: none */
} txt_word_entry;

/* A word in small letters; static, and never NULL: an unknown word's is all zeros. */
extern const txt_word_entry *txt_word_entry_of(const char *word, size_t len);

#define TXT_MAX_STEM 64

/* What is left of a word without English endings; deep: without those that make other kinds of words, too.  Its length. */
extern size_t txt_stem(const char *word, size_t len, bool deep, char out[TXT_MAX_STEM]);

#endif							/* MILLRACE_TEXT_MEANING_WORDS_H */
