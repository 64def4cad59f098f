/*
 * sketch.h
 *	  What a column looked like, in bounded memory: sketches, and how far two
 *	  of them are apart.
 *
 * A sketch of numbers keeps count, missing, extremes, mean and variance
 * exactly, and the distribution within a rank error that it knows
 * (lrn_sketch_rank_error).  Up to LRN_SKETCH_K values it is exact.  A sketch
 * of categories counts up to LRN_SKETCH_CATEGORIES values exactly; beyond,
 * frequent ones within lrn_sketch_count_error.  Sketches merge, so that those
 * of seven days are the sketch of a week.  The same values in the same order
 * give the same bytes on every machine: the choices are seeded.
 *
 * Sizes: at most about 45 kB in memory and 25 kB as bytes for numbers; as many
 * bytes as its values have for categories, at most 280 kB.
 */
#ifndef MILLRACE_LEARN_SKETCH_H
#define MILLRACE_LEARN_SKETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/env.h"
#include "core/status.h"

#define LRN_SKETCH_K			1024	/* values kept of the heaviest weight */
#define LRN_SKETCH_CATEGORIES	1024	/* categories kept */
#define LRN_SKETCH_TEXT			255 /* bytes of a category; the rest is cut off */
#define LRN_SKETCH_BLOCK		1024	/* numbers best added at once */

typedef enum lrn_sketch_kind
{
	LRN_SKETCH_NUMBER = 1,
	LRN_SKETCH_CATEGORY = 2
} lrn_sketch_kind;

typedef struct lrn_sketch lrn_sketch;

/* An empty sketch in memory of env (copied); NULL: out of memory. */
extern lrn_sketch *lrn_sketch_create(const mr_env *env, lrn_sketch_kind kind);
extern void lrn_sketch_free(lrn_sketch *s);

/* Add n numbers; NaN = missing.  Infinities take part in order and count, not
 * in mean and variance.  MR_NOMEM, after which s may only be freed. */
extern mr_code lrn_sketch_add(lrn_sketch *s, const double *x, int64_t n);
/* Add one category n times; NULL = missing. */
extern mr_code lrn_sketch_add_text(lrn_sketch *s, const char *text, size_t len, int64_t n);
/* into += other; MR_INVALID if the kinds differ. */
extern mr_code lrn_sketch_merge(lrn_sketch *into, const lrn_sketch *other);

/* Bytes: versioned, checksummed, little-endian; *bytes comes from env. */
extern mr_code lrn_sketch_write(lrn_sketch *s, const mr_env *env, uint8_t **bytes, size_t *len);
/* Checked wholly: MR_CORRUPT. */
extern mr_code lrn_sketch_read(const mr_env *env, const uint8_t *bytes, size_t len,
							   lrn_sketch **out, mr_status *st);

extern lrn_sketch_kind lrn_sketch_kind_of(const lrn_sketch *s);

typedef struct lrn_sketch_info
{
	int64_t		count;			/* values, without missing ones */
	int64_t		missing;
	int64_t		infinite;		/* of count */
	double		min,
				max,
				mean,
				sd;				/* of a sample; NaN where there is none */
	int64_t		distinct;		/* categories known */
	bool		exact;			/* nothing was left out */
	double		rank_error;		/* standard error of a rank, at most; share of count */
	int64_t		count_error;	/* counts of categories are too low by at most this */
} lrn_sketch_info;

extern void lrn_sketch_describe(const lrn_sketch *s, lrn_sketch_info *info);

/* Smallest value kept whose rank reaches q * count, as numpy's inverted_cdf;
 * NaN if there is none.  MR_NOMEM. */
extern mr_code lrn_sketch_quantile(const lrn_sketch *s, double q, double *value);

/* The i-th category in no order; false past the last. */
extern bool lrn_sketch_category(const lrn_sketch *s, int i, const char **text, int *len, int64_t *count);

/* ---- two sketches (drift.c) ---- */

#define LRN_DRIFT_BINS	10
#define LRN_MAX_BINS	100

/* How far current is from reference; NaN where it has no meaning. */
typedef struct lrn_drift
{
	int64_t		rows[2];		/* reference, current: with missing ones */
	double		missing[2];		/* share */
	double		psi;			/* population stability index */
	double		js;				/* Jensen-Shannon distance, 0 to 1 (base 2) */
	double		ks;				/* Kolmogorov-Smirnov statistic, numbers */
	double		ks_p;
	double		chi2;			/* of the table of bins or categories */
	double		chi2_p;
	int			chi2_df;
	double		shift;			/* numbers: location shift in standard deviations, by ranks */
	double		shift_p;		/* Mann-Whitney */
	double		mean_shift;		/* difference of means / sd of the reference */
	double		sd_ratio;
	double		missing_p;		/* two proportions */
	double		new_share;		/* categories: rows whose category the reference lacks */
	double		new_p;
	int			bins;
} lrn_drift;

/* MR_INVALID if the kinds differ or bins is not 2 .. LRN_MAX_BINS. */
extern mr_code lrn_drift_compare(const mr_env *env, const lrn_sketch *reference, const lrn_sketch *current,
								 int bins, lrn_drift *out, mr_status *st);

/* Whether the reference lacks a category for sure. */
extern bool lrn_drift_is_new(const lrn_sketch *reference, const char *text, int len);

typedef enum lrn_correction
{
	LRN_CORRECT_NONE,
	LRN_CORRECT_HOLM,			/* family-wise error */
	LRN_CORRECT_BH				/* Benjamini-Hochberg: false discovery rate */
} lrn_correction;

/* Adjusted p of a family of n; NaN = no test, stays NaN and does not count.  MR_NOMEM. */
extern mr_code lrn_adjust_p(const mr_env *env, lrn_correction method, const double *p, int n, double *adjusted);

/* ---- probabilities (probability.c) ---- */

extern double lrn_normal_two_sided(double z);	/* P(|Z| >= z) */
extern double lrn_normal_quantile(double p);
extern double lrn_gamma_q(double a, double x);	/* regularised upper incomplete gamma */
extern double lrn_chi2_tail(double x, double df);
extern double lrn_kolmogorov_tail(double d, double n);	/* n: effective sample */
extern double lrn_beta_i(double a, double b, double x);	/* regularised incomplete beta */

#endif							/* MILLRACE_LEARN_SKETCH_H */
