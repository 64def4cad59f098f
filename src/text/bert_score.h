/*
 * bert_score.h
 *	  BERTScore: how well the tokens of two texts match, by their vectors.
 *
 * Zhang et al., "BERTScore: Evaluating Text Generation with BERT" (ICLR 2020), as
 * the bert-score package 0.3.13 computes it: each token takes the most similar
 * one of the other text (cosine); precision is the weighted mean over the
 * candidate's tokens, recall over the reference's, F1 their harmonic mean.  A token
 * that is like none (all cosines negative) has 0: so it is in the package wherever
 * the other text was padded in its batch, that is, but for the longest of a batch.
 *
 * A pair's numbers depend on its two texts alone: every dot product and sum is
 * made in one fixed order.  They are bit-equal alone or in any batch on one
 * instruction set, and precision(a, b) is bit-equal to recall(b, a).
 */
#ifndef MILLRACE_TEXT_BERT_SCORE_H
#define MILLRACE_TEXT_BERT_SCORE_H

#include "nn/isa.h"
#include "text/text.h"

typedef struct txt_score
{
	float		precision,
				recall,
				f1;
} txt_score;

/* A text as it is matched: its tokens, those of the template included. */
typedef struct txt_vectors
{
	int			n;
	bool		empty;			/* no tokens but the template's: every score is 0 */
	const float *rows;			/* n rows of txt_score_stride() floats, each of length 1 */
	const float *weight;		/* n, with the sum 1 (or all 0: every score is 0) */
} txt_vectors;

/* Floats between rows of so many numbers: the kernels read whole vectors. */
static inline int
txt_score_stride(int width)
{
	return (width + 15) & ~15;
}

/* rows: n rows of txt_score_stride(width), from n rows of width; a row of zeros stays one. */
extern void txt_score_normalize(const float *hidden, int n, int width, float *rows);

/* Weights by token id: log((documents + 1) / (count + 1)), as the package's get_idf_dict(). */
typedef struct txt_idf
{
	const float *weight;		/* by id, or 0 where id >= n */
	int			n;
	float		unseen;			/* of other ids: log(documents + 1) */
} txt_idf;

/*
 * Weights of a text's tokens, scaled to the sum 1; true if the text is empty.
 * Without idf (NULL) each token counts the same, but for the template's at both
 * ends and their like within ("[SEP]" in a text), which count nothing; with idf the
 * table decides about these too.
 */
extern bool txt_score_weights(const txt_token *token, int n, const txt_idf *idf, float *weight);

/* stride: of both texts.  best: candidate->n + reference->n floats, overwritten. */
extern mr_code txt_score_pair(const mr_env *env, nn_isa isa, const txt_vectors *candidate, const txt_vectors *reference,
							  int stride, float *best, txt_score *out, mr_status *st);

/* (score - baseline) / (1 - baseline), each figure by its own; it may become negative. */
extern txt_score txt_score_rescale(txt_score score, const txt_score *baseline);

/* Of several references: each figure's best, as the package; start from the first. */
extern txt_score txt_score_best(txt_score a, txt_score b);

/*
 * A text as Python's str.strip() leaves it, which the package calls: the bytes
 * [*start, *end) of text.
 */
extern void txt_strip(const char *text, size_t len, size_t *start, size_t *end);

/* ---- kernels_match_*.c: the most similar row of the other side, for both sides ---- */

/* a_best[i], b_best[j]: raised to the greatest dot product with any row of the other side. */
typedef void (*txt_match_fn) (const float *a, int na, const float *b, int nb, int stride, float *a_best, float *b_best);
extern void txt_match_portable(const float *a, int na, const float *b, int nb, int stride, float *a_best, float *b_best);
extern void txt_match_avx2(const float *a, int na, const float *b, int nb, int stride, float *a_best, float *b_best);
extern void txt_match_avx512(const float *a, int na, const float *b, int nb, int stride, float *a_best, float *b_best);

#endif							/* MILLRACE_TEXT_BERT_SCORE_H */
