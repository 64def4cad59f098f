/*
 * learner.h
 *	  The table of algorithms: each is one lrn_learner, defined in the file
 *	  that trains it and listed in learners.c.  Everything else in this room
 *	  asks the table, so that a new algorithm touches no other file.
 */
#ifndef MILLRACE_LEARNER_H
#define MILLRACE_LEARNER_H

#include "learn/learn_int.h"

/* ---- parameters: a declarative list per algorithm, ended by LRN_PARAM_END ---- */

typedef enum lrn_param_type
{
	LRN_PARAM_BOOL,				/* bool */
	LRN_PARAM_MAYBE,			/* int: true, false, or init where not said */
	LRN_PARAM_INT,				/* int */
	LRN_PARAM_SEED,				/* uint64_t, 0 .. 2^32 - 1 */
	LRN_PARAM_REAL,				/* double, low .. high */
	LRN_PARAM_POSITIVE,			/* double above 0 */
	LRN_PARAM_COUNT_OR_SHARE,	/* double: integer from low on, or in (0, 1) */
	LRN_PARAM_CHOICE,			/* int: one of choices */
	LRN_PARAM_CHOICE_OR_POSITIVE,	/* double: above 0, or one of choices, <= 0 */
	LRN_PARAM_MAX_FEATURES,		/* max_features_kind and max_features */
	LRN_PARAM_CLASS_WEIGHT		/* class_weight; objects are the caller's */
} lrn_param_type;

typedef struct lrn_choice
{
	const char *name;			/* NULL ends the list */
	int			value;			/* the first name of a value is the one shown */
} lrn_choice;

typedef struct lrn_param
{
	const char *name;
	lrn_param_type type;
	size_t		offset;			/* of the field in lrn_params */
	double		init;
	double		low,
				high;			/* high 0 = no limit */
	const lrn_choice *choices;
	bool		nullable;		/* null is stored as 0 and shown so */
} lrn_param;

#define LRN_PARAM(field, kind, ...) \
	{.name = #field, .type = LRN_PARAM_##kind, .offset = offsetof(lrn_params, field), __VA_ARGS__}
#define LRN_PARAM_END			{.name = NULL}

/* What several algorithms have. */
extern const lrn_choice lrn_task_choices[];
extern const lrn_choice lrn_calibration_choices[];

#define LRN_PARAM_RANDOM_STATE	LRN_PARAM(random_state, SEED)
#define LRN_PARAM_TASK			LRN_PARAM(task, CHOICE, .init = LRN_CLASSIFY, .choices = lrn_task_choices)
/* Of a classifier: lrn_train() does the rest (calibrate.c). */
#define LRN_PARAM_CALIBRATION(kind) \
	LRN_PARAM(calibration, CHOICE, .init = (kind), .choices = lrn_calibration_choices, .nullable = true), \
	LRN_PARAM(cv, INT, .init = 5, .low = 2, .high = 100)
#define LRN_PARAM_CLASS_WEIGHTS	{.name = "class_weight", .type = LRN_PARAM_CLASS_WEIGHT}

/* ---- algorithms ---- */

#define LRN_CAN(task)			(1u << (task))

/* What makes up a linear model's margins: bias + sum of weight x (x - mean). */
typedef struct lrn_coefficients
{
	int			rows;			/* margins */
	double	   *weight;			/* rows x n_features; from env, the rest within it */
	double	   *bias;			/* rows */
	double	   *mean;			/* n_features, or NULL: zeros */
} lrn_coefficients;

struct lrn_export;

typedef struct lrn_learner
{
	lrn_algorithm algorithm;
	const char *name;
	unsigned	tasks;			/* LRN_CAN() bits; the lowest is the default */
	unsigned	takes;			/* LRN_TAKES_* */
	const lrn_param *params;

	/* Bytes taken at the start of training beyond the matrix. */
	double		(*memory) (const lrn_params *p, int64_t rows, int cols, int n_classes);
	/* The matrix and target have been checked by lrn_train(). */
	mr_code		(*train) (const mr_env *env, const lrn_params *p, const lrn_matrix *m,
						  const lrn_target *t, lrn_report *report,
						  uint8_t **file, size_t *len, mr_status *st);

	/* Dimensions of a file that later code relies on. */
	bool		(*sane) (const lrn_info *info);
	/* The body of model bytes: well formed?  And turned into a prediction file. */
	mr_code		(*check) (lrn_reader *r, const lrn_info *info, mr_status *st);
	mr_code		(*compile) (const mr_env *env, lrn_reader *r, const lrn_info *info,
							uint8_t **file, size_t *len, mr_status *st);
	/* Every offset and index checked, so that predict() needs no check. */
	mr_code		(*open) (const lrn_flat_header *h, lrn_model *m, mr_status *st);

	/* How its body's trees are decoded (tree_view.h); NULL without trees. */
	const struct lrn_tree_format *trees;
	/* The weights of a body that has passed check(); NULL unless linear. */
	mr_code		(*coefficients) (const mr_env *env, lrn_reader *r, const lrn_info *info,
								 lrn_coefficients *out, mr_status *st);

	/* Its nodes in an ONNX file (export.h). */
	mr_code		(*export) (struct lrn_export *e, const char *out);

	/* Generous nanoseconds of one row: the slice between interrupts. */
	double		(*row_ns) (const lrn_model *m);
	/* rows: n x n_features row-major; out: n x n_outputs. */
	void		(*predict) (const lrn_model *m, const float *rows, int64_t n, float *out);
} lrn_learner;

/* linear_file.c: of logistic regression, linear SVM and ridge. */
extern mr_code lrn_linear_coefficients(const mr_env *env, lrn_reader *r, const lrn_info *info,
									   lrn_coefficients *out, mr_status *st);

/* export_*.c: of forests and boosting, of linear models, ... */
extern mr_code lrn_trees_export(struct lrn_export *e, const char *out);
extern mr_code lrn_linear_export(struct lrn_export *e, const char *out);
extern mr_code lrn_kmeans_export(struct lrn_export *e, const char *out);
extern mr_code lrn_knn_export(struct lrn_export *e, const char *out);
extern mr_code lrn_svm_export(struct lrn_export *e, const char *out);

/* The file, the weights and the answers of such a model. */
#define LRN_LINEAR_MODEL \
	.check = lrn_linear_check, \
	.compile = lrn_linear_compile, \
	.open = lrn_linear_open, \
	.coefficients = lrn_linear_coefficients, \
	.export = lrn_linear_export, \
	.row_ns = lrn_linear_row_ns, \
	.predict = lrn_linear_predict

/* sane() of an algorithm that only classifies. */
static inline bool
lrn_classifier_sane(const lrn_info *info)
{
	return info->n_classes == info->n_outputs && info->n_classes >= 2;
}

extern const lrn_learner lrn_random_forest;
extern const lrn_learner lrn_logistic_regression;
extern const lrn_learner lrn_pca;
extern const lrn_learner lrn_gradient_boosting;
extern const lrn_learner lrn_knn;
extern const lrn_learner lrn_extra_trees;
extern const lrn_learner lrn_kmeans;
extern const lrn_learner lrn_ridge;
extern const lrn_learner lrn_linear_svm;
extern const lrn_learner lrn_rbf_svm;

/* NULL if there is none. */
extern const lrn_learner *lrn_learner_of(lrn_algorithm a);

#endif							/* MILLRACE_LEARNER_H */
