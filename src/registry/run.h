/*
 * run.h
 *	  Running models, within the room.  For other rooms: registry.h.
 */
#ifndef MILLRACE_REGISTRY_RUN_H
#define MILLRACE_REGISTRY_RUN_H

#include "registry/model.h"

/* Reading an image for a network: an empty place for its pixels until
 * reg_image_failed() is given the outcome, which it returns if the image is to
 * blame (counted as the model's error) and raises otherwise. */
extern mr_env reg_image_env(void);
extern mr_code reg_image_failed(mr_code code, const mr_status *st);

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

/* ---- networks over rows of numbers (rows_pg.c) ---- */

/* What a model answers.  A network: what its specification says, else classes
 * if it has a label for each number of its answer. */
extern nn_task reg_task_of(const reg_model *model);

/* Numbers of a row: those of all inputs with a task, else of the first. */
extern int64 reg_row_elements(const nn_model *network, nn_task task);

/* n rows through a network: n * n_outputs numbers, as its output has them. */
extern void reg_infer_rows(const reg_model *model, const float *rows, int64 n, float *out);

/* The same as answers of its task, which is not none: probabilities of the
 * labels (n * n_labels; out must hold n * n_outputs too), else n * n_outputs.
 * Scores that are no distribution become one by softmax.  Raises 22023 where a
 * missing value makes the answer NaN. */
extern void reg_answer_rows(const reg_model *model, const float *rows, int64 n, float *out);
extern void reg_softmax_if_logits(float *p, int k);

/* errhint() for a network of which it is not known what it answers. */
extern int	reg_hint_task(void);

/* Elements of tensors (tensor_pg.c): bytes of one (raises 0A000 for a type that
 * SQL cannot pass), its number; store one, false if it is not of the type. */
extern size_t reg_element_size(int32 dtype, const char *tensor);
extern double reg_get_element(const void *data, int32 dtype, int64 i);
extern bool reg_set_element(void *data, int32 dtype, int64 i, double d);

/* Room for n of them.  Raises 54000. */
extern void *reg_alloc_elements(int64 n, int32 dtype, const char *tensor);

/* How many rows (images) of a given size make up n numbers.  Raises 22023. */
extern int	reg_batch_of(const char *reference, const char *tensor, int64 n, int64 elements);

/* Dimensions of a tensor that holds a batch: where the model's first is fixed
 * at 1, several runs make it the batch too. */
extern void reg_batch_dims(const nn_tensor_info *t, int batch, int64 *dims);

/* Whether its size depends on the data. */
extern bool reg_has_dynamic(const nn_tensor_info *t);

/* A batch through a plan of a network, inputs and outputs in their own element
 * types; a NULL output is not wanted.  shapes, if not NULL: nn_run_shaped(). */
extern void reg_infer_network(const reg_model *model, const nn_model *plan, int batch,
							  const void *const *inputs, void *const *outputs, nn_shape *shapes);

#endif							/* MILLRACE_REGISTRY_RUN_H */
