/*
 * overlap.h
 *	  Words that two texts share: ROUGE-L, and the figures of SQuAD.
 *
 * No model, no weights: microseconds a pair.  They see words, not meanings.
 */
#ifndef MILLRACE_TEXT_OVERLAP_H
#define MILLRACE_TEXT_OVERLAP_H

#include "text/text.h"

typedef struct txt_overlap
{
	double		precision,		/* of the candidate's words */
				recall,			/* of the reference's */
				f1;
} txt_overlap;

typedef struct txt_pair
{
	const char *candidate;
	size_t		candidate_len;
	const char *reference;
	size_t		reference_len;
} txt_pair;

/*
 * ROUGE-L (Lin 2004): the longest common subsequence of words, as the rouge-score
 * package's RougeScorer(["rougeL"]) without stemming.  Without a word on either side 0.
 */
extern mr_code txt_rouge_l(const mr_env *env, const txt_pair *pair, txt_overlap *out, mr_status *st);

/*
 * The words in common, each as often as both have it, after SQuAD's normalization
 * (evaluate-v2.0.py, compute_f1); equal: compute_exact.  Two texts without a word
 * are equal and have 1, one without has 0.
 */
extern mr_code txt_token_overlap(const mr_env *env, const txt_pair *pair, txt_overlap *out, bool *equal, mr_status *st);

#endif							/* MILLRACE_TEXT_OVERLAP_H */
