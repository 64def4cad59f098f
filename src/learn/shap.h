/*
 * shap.h
 *	  What each feature of a row contributed to a model's answer.
 */
#ifndef MILLRACE_SHAP_H
#define MILLRACE_SHAP_H

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

#endif							/* MILLRACE_SHAP_H */
