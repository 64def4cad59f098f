/*
 * shap.h
 *	  What each feature of a row contributed to a model's answer.
 */
#ifndef MILLRACE_SHAP_H
#define MILLRACE_SHAP_H

#include "learn/learner.h"
#include "learn/tree_view.h"

/*
 * SHAP values of trees by the path-dependent TreeSHAP (shap.c).  rows: n x
 * n_features row-major, NaN = missing; out: n x (n_features + 1) x n_margins,
 * the last feature being the expected value, so that the sum over features is
 * the row's margin.  v is rewound first.  Beyond v it takes memory for the
 * paths of the deepest tree: MR_LIMIT above 1 GB, MR_NOMEM, MR_CANCELED.
 */
extern mr_code lrn_shap(lrn_trees *v, const float *rows, int64_t n, double *out, mr_status *st);

/*
 * Importance of each feature (n_features doubles, sum 1 unless all are 0): the
 * gains of its splits, each tree's divided by their sum in forests (as
 * scikit-learn does), and in boosting summed as they are (as LightGBM does).
 */
extern mr_code lrn_tree_importances(lrn_trees *v, double *out, mr_status *st);

/*
 * The same for a linear model: weight x (x - mean), out as above; the expected
 * value is the bias.  bytes are checked; MR_UNSUPPORTED unless it is linear.
 */
extern mr_code lrn_linear_open_coefficients(const mr_env *env, const uint8_t *bytes, size_t len,
											lrn_info *info, lrn_coefficients *out, mr_status *st);
extern void lrn_linear_contributions(const lrn_info *info, const lrn_coefficients *c,
									 const float *row, double *out);
/* Shares of the absolute weights, over all margins. */
extern void lrn_linear_importances(const lrn_info *info, const lrn_coefficients *c, double *out);

#endif							/* MILLRACE_SHAP_H */
