/*
 * score.h
 *	  One number for how good predictions are, and whether one model's are
 *	  better than another's on the same rows.
 *
 * A score is computed from two vectors per row, filled slice by slice while a
 * model predicts: the class predicted and the row's loss.  So it can be taken
 * again for any resample of the rows, given how often each was drawn.
 */
#ifndef MILLRACE_LEARN_SCORE_H
#define MILLRACE_LEARN_SCORE_H

#include "core/env.h"
#include "core/status.h"

typedef enum lrn_score_kind
{
	LRN_SCORE_ACCURACY,
	LRN_SCORE_BALANCED_ACCURACY,	/* mean recall of the classes that have rows */
	LRN_SCORE_F1_MACRO,			/* mean F1 of the classes with rows or predictions */
	LRN_SCORE_F1_WEIGHTED,
	LRN_SCORE_LOG_LOSS,			/* -ln of the true class's probability, at least 2.2e-16 */
	LRN_SCORE_BRIER,			/* squared distance of the probabilities from the truth, 0 to 2 */
	LRN_SCORE_ROC_AUC,			/* one class against the rest, mean over the classes */
	LRN_SCORE_RMSE,
	LRN_SCORE_MAE,
	LRN_SCORE_R2
} lrn_score_kind;

/* By name; MR_INVALID for one that does not suit, the hint lists those that do. */
extern mr_code lrn_score_find(const char *name, bool regression, lrn_score_kind *out, mr_status *st);
extern const char *lrn_score_name(lrn_score_kind kind);
/* +1: more is better (accuracy); -1: less is (losses). */
extern int	lrn_score_sign(lrn_score_kind kind);

/* Rows as one model answered them. */
typedef struct lrn_scored
{
	int64_t		rows;
	int			n_classes;		/* 0: regression */
	const int32_t *truth;		/* classes; may be n_classes and more: unknown to the model */
	const float *value;			/* regression: the truth */
	int32_t    *predicted;		/* classes */
	double	   *loss;			/* log-loss, Brier, squared or absolute error */
	float	   *proba;			/* rows x n_classes, LRN_SCORE_ROC_AUC only, else NULL */
} lrn_scored;

/* Enter a model's answers (n x n_classes, or n values) to rows first .. first + n - 1. */
extern void lrn_score_enter(lrn_score_kind kind, const lrn_scored *s, int64_t first, int64_t n, const float *out);

/*
 * The score.  count: how often each row counts (NULL: once; not for ROC AUC).
 * work: lrn_score_work() bytes.  NaN where it is not defined (R2 of equal
 * values, ROC AUC of one class).
 */
extern size_t lrn_score_work(lrn_score_kind kind, const lrn_scored *s);
extern double lrn_score(lrn_score_kind kind, const lrn_scored *s, const int32_t *count, void *work);

/*
 * McNemar's test of equal error rates: rows that only one, and only the other
 * model got right.  Exact (binomial, two-sided), or its mid-p version (Fagerland,
 * Lydersen and Laake 2013), which is less conservative.
 */
extern double lrn_mcnemar(int64_t only_a, int64_t only_b, bool mid_p);

/*
 * Percentile bootstrap of a paired difference: score of b minus score of a,
 * signed so that more is better for b, over resamples of the rows.
 */
typedef struct lrn_interval
{
	double		low;			/* quantile alpha / 2 */
	double		high;			/* quantile 1 - alpha / 2 */
	double		p;				/* two-sided: how rarely the difference has the other sign */
} lrn_interval;

extern mr_code lrn_paired_bootstrap(const mr_env *env, lrn_score_kind kind, const lrn_scored *a, const lrn_scored *b,
									int resamples, double alpha, uint64_t seed, lrn_interval *out, mr_status *st);

#endif							/* MILLRACE_LEARN_SCORE_H */
