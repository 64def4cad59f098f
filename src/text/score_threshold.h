/*
 * score_threshold.h
 *	  From judged examples to the threshold of a quality gate, and the scale on
 *	  which that threshold is 0.75.
 */
#ifndef MILLRACE_TEXT_SCORE_THRESHOLD_H
#define MILLRACE_TEXT_SCORE_THRESHOLD_H

#include "text/text.h"

#define TXT_GATE 0.75			/* what a calibrated score must exceed */

/* Which threshold is best. */
typedef enum txt_criterion
{
	TXT_YOUDEN,					/* greatest J = share of the good accepted - share of the bad accepted (Youden 1950) */
	TXT_EQUAL_RATES				/* the bad accepted and the good rejected are the same share, as nearly as can be */
} txt_criterion;

typedef struct txt_judged
{
	double		score;
	bool		good;
} txt_judged;

typedef struct txt_threshold
{
	double		threshold;		/* accepted is what is greater: half way between two scores */
	int64_t		n;
	int64_t		good;
	int64_t		false_accepts;	/* bad ones above */
	int64_t		false_rejects;	/* good ones not above */
	double		auc;			/* probability that a good one scores above a bad one, ties half */
	double		least,
				greatest;		/* scores seen */
} txt_threshold;

/*
 * Sorts the examples.  MR_INVALID where all are good or none is, or all scores are
 * one.  Of equally good thresholds the least.
 */
extern mr_code txt_find_threshold(const mr_env *env, txt_judged *example, int64_t n, txt_criterion criterion,
								  txt_threshold *out, mr_status *st);

/* Straight lines between knots whose raw values ascend; the ends' values beyond them. */
#define TXT_MAX_KNOTS 32
typedef struct txt_scale
{
	int			n;
	double		raw[TXT_MAX_KNOTS];
	double		calibrated[TXT_MAX_KNOTS];
} txt_scale;

/* 0 at the least score that may come, TXT_GATE at the threshold, 1 at 1. */
extern txt_scale txt_scale_of(const txt_threshold *t);
extern double txt_scale_apply(const txt_scale *scale, double raw);

/* Whether both ascend, strictly, and are finite. */
extern bool txt_scale_is_valid(const txt_scale *scale);

#endif							/* MILLRACE_TEXT_SCORE_THRESHOLD_H */
