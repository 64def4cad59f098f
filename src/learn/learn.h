/*
 * learn.h
 *	  Learning without a server: train, compile, open, predict.
 *
 * A training call takes a columnar float32 matrix (NaN = missing) and gives
 * "model bytes": canonical, portable, checksummed, kept in the catalogue for
 * ever.  lrn_compile() turns them into a "prediction file": flat, position
 * independent, mapped read-only by all sessions.  lrn_open() checks every
 * offset and index of such a file once, so that prediction itself needs no
 * check, allocates nothing and cannot fail, loop or leave the map.
 *
 * Training is single-threaded and bit-reproducible: the same data, parameters
 * and random_state give the same bytes on every instruction set.  So does
 * prediction: a row alone, in a batch, or on another instruction set gives
 * the same floats.
 */
#ifndef MILLRACE_LEARN_H
#define MILLRACE_LEARN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/env.h"
#include "core/status.h"

#define LRN_MAX_FEATURES	65535
#define LRN_MAX_CLASSES		65535
#define LRN_SVM_CLASSES		100		/* of rbf_svm: a machine for each pair */

/* ---- algorithms and parameters (params.c) ---- */

typedef enum lrn_algorithm
{
	LRN_RANDOM_FOREST = 1,
	LRN_LOGISTIC_REGRESSION = 2,
	LRN_PCA = 3,
	LRN_EXTRA_TREES = 4,
	LRN_GRADIENT_BOOSTING = 5,
	LRN_LINEAR_SVM = 6,
	LRN_RBF_SVM = 7,
	LRN_KNN = 8,
	LRN_KMEANS = 9,
	LRN_RIDGE = 10
} lrn_algorithm;

/* What a model answers: lrn_predict() gives n_outputs numbers a row. */
typedef enum lrn_task
{
	LRN_CLASSIFY,				/* probabilities of the classes */
	LRN_REGRESS,				/* one value */
	LRN_TRANSFORM,				/* components */
	LRN_CLUSTER					/* distances to the centres */
} lrn_task;

extern const char *lrn_algorithm_name(lrn_algorithm a);
/* MR_INVALID with the known names as hint. */
extern mr_code lrn_algorithm_find(const char *name, lrn_algorithm *out, mr_status *st);
/* What its models answer unless parameter "task" says otherwise. */
extern lrn_task lrn_first_task(lrn_algorithm a);

/* What an algorithm can do with its data. */
#define LRN_TAKES_MISSING		1	/* NaN in features has a meaning */
#define LRN_TAKES_CATEGORIES	2	/* columns may hold codes of categories */
#define LRN_TAKES_WEIGHTS		4	/* lrn_target.weight */
#define LRN_NO_TRAIN_SCORE		8	/* predicting the training rows tells nothing */
#define LRN_GIVES_SCORES		16	/* learner's predict() gives scores, no probabilities */

/* Whether an algorithm has all of these. */
extern bool lrn_takes(lrn_algorithm a, unsigned what);

/* A parameter's value as it comes from jsonb. */
typedef enum lrn_value_kind
{
	LRN_NULL,
	LRN_BOOL,
	LRN_NUMBER,
	LRN_TEXT
} lrn_value_kind;

typedef struct lrn_value
{
	lrn_value_kind kind;
	double		number;			/* LRN_NUMBER; LRN_BOOL: 0 or 1 */
	const char *text;			/* LRN_TEXT, zero-terminated */
} lrn_value;

typedef enum lrn_criterion
{
	LRN_CRITERION_BY_TASK,		/* gini, or squared_error in a regression */
	LRN_GINI,
	LRN_ENTROPY,				/* also "log_loss" */
	LRN_SQUARED_ERROR
} lrn_criterion;

typedef enum lrn_class_weight
{
	LRN_WEIGHT_NONE,
	LRN_WEIGHT_BALANCED,
	LRN_WEIGHT_BALANCED_SUBSAMPLE,
	LRN_WEIGHT_GIVEN			/* class_weights[] */
} lrn_class_weight;

/* How many of the features a split looks at. */
typedef enum lrn_max_features
{
	LRN_FEATURES_BY_TASK,		/* sqrt, or all in a regression */
	LRN_FEATURES_SQRT,
	LRN_FEATURES_LOG2,
	LRN_FEATURES_ALL,
	LRN_FEATURES_COUNT,			/* max_features is a number of columns */
	LRN_FEATURES_FRACTION		/* max_features is a share of the columns */
} lrn_max_features;

typedef enum lrn_isa
{
	LRN_ISA_AUTO,
	LRN_ISA_PORTABLE,
	LRN_ISA_AVX2,
	LRN_ISA_AVX512
} lrn_isa;

typedef enum lrn_solver
{
	LRN_SOLVER_AUTO,			/* by the number of unknowns */
	LRN_SOLVER_LBFGS,
	LRN_SOLVER_NEWTON
} lrn_solver;

typedef enum lrn_svd_solver
{
	LRN_SVD_AUTO,				/* by the shape, as scikit-learn */
	LRN_SVD_FULL,
	LRN_SVD_RANDOMIZED
} lrn_svd_solver;

typedef enum lrn_neighbour_weights
{
	LRN_WEIGHTS_UNIFORM,
	LRN_WEIGHTS_DISTANCE		/* 1 / distance */
} lrn_neighbour_weights;

typedef enum lrn_metric
{
	LRN_EUCLIDEAN,
	LRN_COSINE,
	LRN_MANHATTAN
} lrn_metric;

/* What gamma stands for when it is no number. */
#define LRN_GAMMA_SCALE		0	/* 1 / (columns x variance of all numbers) */
#define LRN_GAMMA_AUTO		(-1)	/* 1 / columns */

typedef enum lrn_loss
{
	LRN_HINGE,
	LRN_SQUARED_HINGE
} lrn_loss;

typedef enum lrn_calibration
{
	LRN_CALIBRATION_NONE,
	LRN_CALIBRATION_SIGMOID,	/* Platt */
	LRN_CALIBRATION_ISOTONIC
} lrn_calibration;

/* done of total (trees, iterations, passes), loss NaN where there is none. */
typedef void (*lrn_progress) (void *arg, int64_t done, int64_t total, double loss);

/*
 * scikit-learn's names, meanings and defaults.  Which algorithm takes which,
 * and in what range, stands in the algorithm's list (learner.h).
 */
typedef struct lrn_params
{
	lrn_algorithm algorithm;
	lrn_task	task;			/* the algorithm's first */
	uint64_t	random_state;	/* 0 */

	/* random_forest, extra_trees */
	int			n_estimators;	/* 100 */
	lrn_criterion criterion;	/* by task */
	int			max_depth;		/* 0 = no limit */
	double		min_samples_split;	/* 2; below 1 = share of the rows */
	double		min_samples_leaf;	/* 1; below 1 = share of the rows */
	double		min_impurity_decrease;	/* 0 */
	lrn_max_features max_features_kind; /* by task */
	double		max_features;
	bool		bootstrap;		/* true; extra_trees: false */
	double		max_samples;	/* 0 = all; 1.0 or less = share, above = rows */
	int			oob_score;		/* -1: measured unless its votes would take more
								 * than 256 MB; 0 never; 1 always */

	/* random_forest, logistic_regression */
	lrn_class_weight class_weight;	/* none */
	const double *class_weights;	/* per class id, LRN_WEIGHT_GIVEN */

	/* logistic_regression, and others where their lists say so */
	double		C;				/* 1 */
	double		tol;			/* 1e-4 */
	int			max_iter;		/* 100; kmeans 300 */
	bool		fit_intercept;	/* true */
	bool		standardize;	/* false; true = StandardScaler first, kept in
								 * the model */
	int			solver;			/* lrn_solver: auto */

	/* ridge */
	double		alpha;			/* 1 */

	/* gradient_boosting */
	double		learning_rate;	/* 0.1 */
	int			max_leaf_nodes; /* 31; 0 = as many as there are rows */
	double		min_child_weight;	/* 1e-3, sum of hessians */
	double		min_split_gain; /* 0 */
	double		l2_regularization;	/* 0 */
	int			max_bins;		/* 255 */
	double		subsample;		/* 1: share of the rows a round */
	double		colsample_bytree;	/* 1: share of the columns a tree */
	bool		early_stopping; /* false */
	double		validation_fraction;	/* 0.1 */
	int			n_iter_no_change;	/* 10 */

	/* linear_svm, rbf_svm */
	double		gamma;			/* LRN_GAMMA_SCALE */
	double		cache_size;		/* 200 MB of kernel rows */
	lrn_loss	loss;			/* squared_hinge */

	/* classifiers */
	lrn_calibration calibration;	/* SVMs sigmoid, others none */
	int			cv;				/* 5 folds whose scores it is learnt from */

	/* pca */
	double		n_components;	/* 0 = all; below 1 = variance to keep */
	bool		whiten;			/* false */
	int			svd_solver;		/* lrn_svd_solver: auto */
	int			iterated_power; /* 0 = auto: 7, or 4 for many components */
	int			n_oversamples;	/* 10 */

	/* kmeans */
	int			n_clusters;		/* 8 */
	int			n_init;			/* 1 */

	/* knn */
	int			n_neighbors;	/* 5 */
	int			weights;		/* lrn_neighbour_weights: uniform */
	int			metric;			/* lrn_metric: euclidean */

	/* the caller's, never set by name */
	lrn_isa		isa;			/* of the kernels; it does not show in the model */
	bool		fit_only;		/* no figures of the training rows: they cost */
	size_t		max_memory;		/* bytes beyond the matrix; 0 = no limit */
	lrn_progress progress;		/* NULL = none */
	void	   *progress_arg;
} lrn_params;

extern void lrn_params_init(lrn_params *p, lrn_algorithm a);
/*
 * Set one parameter by its scikit-learn name.  MR_INVALID for an unknown name
 * (the hint lists the known ones), a wrong type or a value out of range.
 * class_weight as an object is the caller's: it knows the labels.
 */
extern mr_code lrn_params_set(lrn_params *p, const char *name,
							  const lrn_value *value, mr_status *st);
/* All parameters of the algorithm, defaults too, as one JSON object. */
extern size_t lrn_params_json(const lrn_params *p, char *out, size_t size);

/* ---- training (train.c, forest_*.c, logistic_*.c, pca_*.c) ---- */

typedef struct lrn_matrix
{
	int64_t		rows;
	int			cols;
	float	   *const *col;		/* col[c][row]; NaN = missing */
	const char *const *name;	/* column names for messages, or NULL */
	const int32_t *n_categories;	/* NULL, or per column: 0 numbers, else it
									 * holds codes 0 .. n-1 */
} lrn_matrix;

/* What is to be learnt, by row. */
typedef struct lrn_target
{
	const int32_t *class_id;	/* LRN_CLASSIFY: 0 .. n_classes-1 */
	int			n_classes;
	const float *value;			/* LRN_REGRESS */
	const float *weight;		/* of rows, finite and >= 0; or NULL */
} lrn_target;

/* What is known after training beyond the model itself; NaN = not measured. */
typedef struct lrn_report
{
	double		train_accuracy; /* share of rows, classifiers */
	double		train_rmse;		/* regressors */
	double		oob_score;		/* accuracy or R2 out of bag, forests */
	double		loss;			/* mean log-loss + penalty at the end, logistic;
								 * inertia, kmeans */
	int			iterations;		/* of the solver */
	bool		converged;
	int64_t		nodes;			/* of all trees */
	int			depth;			/* of the deepest tree */
	int			outputs;		/* classes, components or clusters */
	double		variance_kept;	/* sum of explained_variance_ratio, PCA */
	size_t		memory;			/* peak bytes taken beyond the matrix */
} lrn_report;

/*
 * Bytes that training takes at its start beyond the matrix; SIZE_MAX when the
 * sum overflows.  A forest's nodes come on top and are checked as they grow.
 */
extern size_t lrn_train_memory(const lrn_params *p, int64_t rows, int cols, int n_classes);

/*
 * Train on m and t (NULL where the task has no target).  *file comes from env.
 * MR_INVALID: data the algorithm cannot take (infinity, one class only, missing
 * values where it has no rule for them; named by column); MR_LIMIT: max_memory;
 * MR_NOMEM; MR_CANCELED within 10 ms of work.
 */
extern mr_code lrn_train(const mr_env *env, const lrn_params *p, const lrn_matrix *m,
						 const lrn_target *t, lrn_report *report,
						 uint8_t **file, size_t *len, mr_status *st);

/* ---- model bytes and prediction files (file.c, *_file.c) ---- */

/* Best of this processor; never LRN_ISA_AUTO. */
extern lrn_isa lrn_isa_best(void);

/* Changes whenever prediction files do; part of their key. */
#define LRN_COMPILER_VERSION 3

typedef struct lrn_info
{
	lrn_algorithm algorithm;
	lrn_task	task;
	int			n_features;
	int			n_classes;		/* 0 unless LRN_CLASSIFY */
	int			n_outputs;		/* numbers of an answer */
} lrn_info;

/* Check model bytes wholly (MR_CORRUPT) and tell what they are. */
extern mr_code lrn_check(const uint8_t *bytes, size_t len, lrn_info *info, mr_status *st);

/* Model bytes -> prediction file, both checked; *file comes from env. */
extern mr_code lrn_compile(const mr_env *env, const uint8_t *bytes, size_t len,
						   uint8_t **file, size_t *file_len, mr_status *st);

/* PCA's explained_variance (n_outputs doubles each; NULL = not wanted). */
extern mr_code lrn_pca_variance(const uint8_t *bytes, size_t len, double *variance,
								double *ratio, mr_status *st);

/* ---- prediction (predict.c, forest_predict*.c, linear_predict*.c) ---- */

struct lrn_share;
struct lrn_top;
struct lrn_learner;

/*
 * Points into the map; no memory of its own.  Treat as opaque.  Each family of
 * algorithms has its own fields.
 */
typedef struct lrn_model
{
	lrn_info	info;
	const struct lrn_learner *learner;
	lrn_isa		isa;
	const uint8_t *base;
	/* forest */
	const uint64_t *nodes;		/* packed nodes of all trees */
	const uint32_t *wide;		/* left children where they do not fit, or NULL */
	const uint32_t *roots;		/* n_trees */
	const struct lrn_top *tops; /* n_trees */
	const struct lrn_share *shares; /* lists of mixed leaves */
	uint32_t	n_nodes;
	uint32_t	n_trees;
	uint32_t	n_shares;
	int			child_shift;	/* bits below the left child in a packed node */
	/* boosting: boost_file.h; roots and bias are its too */
	const struct boost_page *pages;
	const struct boost_link *links;
	const struct boost_used *used;
	const uint8_t *map;
	const uint32_t (*sets)[8];
	uint32_t	n_pages;
	uint32_t	most_pages;		/* of one tree */
	uint32_t	n_used;
	uint32_t	n_links;
	uint32_t	n_sets;
	/* linear: logistic regression and PCA */
	const float *mean;			/* n_features, or NULL */
	const float *weights;		/* n_features x padded outputs */
	const double *bias;			/* padded outputs */
	int			padded;			/* outputs rounded up to 8 */
	bool		softmax;
	bool		sigmoid;		/* two classes from one margin */
	/* kmeans (centres in weights), knn, rbf_svm: distances between (x - shift) * scale */
	const double *shift;		/* n_features */
	const double *scale;
	/* knn */
	const float *points;		/* groups of LRN_LANES rows, feature by feature */
	const uint32_t *labels;		/* a class a point, or */
	const float *values;		/* a value a point */
	uint32_t	n_points;
	int			n_neighbors;
	int			metric;			/* lrn_metric */
	bool		by_distance;	/* nearer ones weigh more */

	/* rbf_svm; a class's support vectors fill whole tiles */
	struct
	{
		const double *rho;		/* a pair */
		const uint32_t *first_tile; /* n_classes + 1 */
		const float *tiles;		/* n_features x LRN_TILE each */
		const float *coef;		/* (n_classes - 1) x LRN_TILE each */
	}			svm;
	/* a map for the second of two classes, else for each */
	struct
	{
		lrn_calibration kind;
		const double *a;		/* sigmoid: padded to eights */
		const double *b;
		const uint32_t *first;	/* isotonic: of each map's points, and their number */
		const double *x;
		const double *y;
	}			calibration;
} lrn_model;

/* MR_CORRUPT unless every index of the file is in range.  Linear in its size. */
extern mr_code lrn_open(const void *file, size_t len, lrn_model *model, mr_status *st);
/* Force an instruction set (tests, millrace.isa); one not available is lowered. */
extern void lrn_set_isa(lrn_model *model, lrn_isa isa);

static inline int
lrn_n_features(const lrn_model *m)
{
	return m->info.n_features;
}

static inline int
lrn_n_classes(const lrn_model *m)
{
	return m->info.n_classes;
}

static inline int
lrn_n_outputs(const lrn_model *m)
{
	return m->info.n_outputs;
}

/* Whether NaN (missing) features are meaningful; else results are NaN. */
extern bool lrn_takes_missing(const lrn_model *m);

/* Rows that surely take less than 10 ms: the caller's slice between interrupts. */
extern int64_t lrn_slice(const lrn_model *m);

/* rows: n x n_features row-major; out: n x n_outputs, what lrn_task says. */
extern void lrn_predict(const lrn_model *m, const float *rows, int64_t n, float *out);

/*
 * The same before calibration: decision scores of an SVM (larger = more likely),
 * uncalibrated probabilities of other classifiers; all else as lrn_predict().
 */
extern void lrn_scores(const lrn_model *m, const float *rows, int64_t n, float *out);

#endif							/* MILLRACE_LEARN_H */
