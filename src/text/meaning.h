/*
 * meaning.h
 *	  Do two questions ask the same?  What an embedding does not see.
 *
 * Vectors of "with sugar" and "without sugar", of "in 2019" and "in 2020" are as near each
 * other as those of two wordings of one question.  txt_meaning_conflict() looks
 * for what must agree.  It never says that two questions mean the same: that is the
 * embedding's part.
 */
#ifndef MILLRACE_TEXT_MEANING_H
#define MILLRACE_TEXT_MEANING_H

#include "text/text.h"

#define TXT_MAX_CONFLICT 160	/* bytes of a description, with its end */

/*
 * *conflict becomes what stands against their having one answer, such as
 * 'number: 5 against 6'; empty: nothing was found.  UTF-8, need not be valid.
 * MR_NOMEM, MR_CANCELED.
 */
extern mr_code txt_meaning_conflict(const mr_env *env, const char *a, size_t a_len, const char *b, size_t b_len,
									char conflict[TXT_MAX_CONFLICT], mr_status *st);

/*
 * First half of the SHA-256 of a question without what never matters: spaces are
 * one blank, sentence marks at the end go, the first letter becomes small unless a capital or a digit follows.
 */
extern mr_code txt_question_key(const mr_env *env, const char *text, size_t len, uint8_t key[16], mr_status *st);

#endif							/* MILLRACE_TEXT_MEANING_H */
