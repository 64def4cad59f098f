/*
 * run.h
 *	  Running models, within the room.  For other rooms: registry.h.
 */
#ifndef MILLRACE_REGISTRY_RUN_H
#define MILLRACE_REGISTRY_RUN_H

#include "registry/model.h"

/* Raises 22023 unless rows of so many numbers are the model's. */
extern void reg_check_columns(const reg_model *model, int64 columns);

/* Whether NaN is a missing value to a model. */
extern bool reg_takes_missing(const reg_model *model);

/* One row of d numbers through a regressor, or the number of the nearest of a
 * clustering's centres.  Raises 22023 for any other model. */
extern float reg_predict(const reg_model *model, const float *row, int d);

/* n rows through a learner: n * n_outputs numbers, by its task. */
extern void reg_infer_learner(const reg_model *model, const float *rows, int64 n, float *out);
/* The same before calibration: decision scores of SVMs. */
extern void reg_infer_scores(const reg_model *model, const float *rows, int64 n, float *out);

/* A batch through a plan of a network, inputs and outputs in their own element
 * types; a NULL output is not wanted.  shapes, if not NULL: nn_run_shaped(). */
extern void reg_infer_network(const reg_model *model, const nn_model *plan, int batch,
							  const void *const *inputs, void *const *outputs, nn_shape *shapes);

#endif							/* MILLRACE_REGISTRY_RUN_H */
