/*
 * metrics.h
 *	  How good answers are: labels, probabilities, scores, values.
 *
 * All figures are scikit-learn's, by its definitions.  Each family is sums that
 * grow by the row and can be added together, and a function that turns them
 * into figures.  A figure that does not exist (an AUC of one class) is NaN.
 */
#ifndef MILLRACE_LEARN_METRICS_H
#define MILLRACE_LEARN_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/env.h"
#include "core/status.h"

/* ---- labels: counts of (true, predicted) pairs (confusion.c) ---- */

typedef struct lrn_cell
{
	uint32_t	truth;
	uint32_t	predicted;
	int64_t		count;			/* 0: a free place of the table */
} lrn_cell;

/* A hash table of the pairs that occur: 1,000 classes need not a million counts. */
typedef struct lrn_confusion
{
	const mr_env *env;
	lrn_cell   *cell;
	size_t		size;			/* places, a power of two, or 0 */
	size_t		used;
	size_t		limit;			/* most pairs; 0: none */
} lrn_confusion;

/* A table of zeros has only env (and a limit) set.  MR_LIMIT, MR_NOMEM. */
extern mr_code lrn_confusion_add(lrn_confusion *c, uint32_t truth, uint32_t predicted,
								 int64_t count, mr_status *st);
extern void lrn_confusion_free(lrn_confusion *c);

/* Of one class: 0 where a denominator is 0, as scikit-learn's zero_division. */
typedef struct lrn_class_metrics
{
	double		precision;
	double		recall;
	double		f1;
	int64_t		support;		/* rows of the class */
	int64_t		predicted;		/* rows taken for it */
	int64_t		right;			/* both */
} lrn_class_metrics;

typedef struct lrn_metrics
{
	int64_t		rows;
	double		accuracy;		/* also micro precision, recall and F1 */
	double		balanced_accuracy;	/* mean recall of the classes that have rows */
	double		precision_macro;	/* means over classes with rows or predictions */
	double		recall_macro;
	double		f1_macro;
	double		precision_weighted; /* by support */
	double		recall_weighted;
	double		f1_weighted;
	double		kappa;			/* Cohen's; NaN: one class only */
	double		mcc;			/* Matthews' correlation, of many classes too */
} lrn_metrics;

/* per_class: n_classes; all ids in c are below that. */
extern void lrn_metrics_of(const lrn_confusion *c, int n_classes, lrn_metrics *out,
						   lrn_class_metrics *per_class);

/* ---- probabilities (metrics.c) ---- */

/* Rows whose probability lies in one of equal intervals (low, high]. */
typedef struct lrn_bin
{
	int64_t		n;
	double		sum;			/* of the probabilities */
	int64_t		right;
} lrn_bin;

/* The bin 0 .. n-1 of p in [0, 1]: as scikit-learn's calibration_curve cuts. */
extern int	lrn_bin_of(double p, int n);

/* Expected calibration error: mean distance of probability and frequency. */
extern double lrn_calibration_error(const lrn_bin *bin, int n);

/* -ln of a probability, which is at least 2.2e-16. */
extern double lrn_log_loss(double p);

/*
 * ---- scores: sorted keys of lrn_key_of() (ranking.c) ----
 *
 * What is interrupted returns early with a wrong number: the caller looks.
 */

typedef struct lrn_ranking
{
	const mr_env *env;
	const uint64_t *positive;	/* ascending */
	const uint64_t *negative;
	int64_t		n_positive;
	int64_t		n_negative;
} lrn_ranking;

/* Area under the ROC curve, ties by half; NaN unless both classes have rows. */
extern double lrn_roc_auc(const lrn_ranking *r);

/* Area under precision over recall as a sum of steps; NaN without positives. */
extern double lrn_average_precision(const lrn_ranking *r);

/* Score and above is positive.  threshold INFINITY: nothing is. */
typedef struct lrn_curve_point
{
	double		threshold;
	double		x;				/* false positive rate; recall */
	double		y;				/* true positive rate; precision */
} lrn_curve_point;

typedef enum lrn_curve
{
	LRN_ROC,
	LRN_PR
} lrn_curve;

/*
 * Points of a curve by falling threshold, without those that lie on the line
 * of their neighbours; of more than max of them, some at even distances (max
 * at least 3).  points takes max; NULL: count only.  Returns their number; 0
 * where the curve does not exist.
 */
extern int64_t lrn_curve_of(const lrn_ranking *r, lrn_curve kind, int64_t max, lrn_curve_point *points);

/* ---- values (metrics.c) ---- */

typedef struct lrn_residuals
{
	int64_t		n;
	double		absolute;		/* sum of |error| */
	double		square;			/* sum of squared errors */
	double		mean;			/* of the true values */
	double		spread;			/* sum of their squared distances from the mean */
} lrn_residuals;

extern void lrn_residuals_add(lrn_residuals *s, double truth, double predicted);
extern void lrn_residuals_merge(lrn_residuals *s, const lrn_residuals *other);

/* NaN for fewer than two rows; of a constant truth 1 if all is right, else 0. */
extern double lrn_r2(const lrn_residuals *s);

#endif							/* MILLRACE_LEARN_METRICS_H */
