/*
 * boost_learner.c
 *	  Gradient boosting's row in the table of algorithms, its parameters, and
 *	  the memory it needs.
 */
#include "learn/boost.h"
#include "learn/learner.h"
#include "learn/tree_view.h"

#include <math.h>

#define SLOT_MEMORY	(256.0 * 1048576)	/* histograms beyond this are built again */
#define MOST_LEAVES	65536

int
boost_leaves(const lrn_params *p, int64_t rows)
{
	int64_t		leaves = p->max_leaf_nodes > 0 ? p->max_leaf_nodes : MOST_LEAVES;

	/* A tree of depth d has at most 2^d leaves, and each leaf has rows. */
	if (p->max_depth > 0 && p->max_depth < 16 && leaves > (int64_t) 1 << p->max_depth)
		leaves = (int64_t) 1 << p->max_depth;
	return (int) (leaves < rows ? leaves : rows);
}

int
boost_slots(const lrn_params *p, int64_t rows, size_t slot_size)
{
	double		most = SLOT_MEMORY / (fmax(1, (double) slot_size) * sizeof(boost_sum));
	double		leaves = boost_leaves(p, rows) + 1;

	return (int) fmax(3, fmin(most, leaves));
}

static double
memory_needed(const lrn_params *p, int64_t rows, int cols, int n_classes)
{
	double		r = (double) rows + 16,
				columns = ceil(cols / 8.0) * 8,
				margins = p->task == LRN_CLASSIFY && n_classes > 2 ? n_classes : 1,
				slot = columns * BOOST_STRIDE,
				leaves = boost_leaves(p, rows);

	/* bins by row and by column; rows four times, pairs, target, weights twice,
	 * softmax; scores; histograms; a tree; borders */
	return r * columns * 2 + r * (16 + 8 + 4 + 8 + 8) + r * margins * 4 +
		boost_slots(p, rows, (size_t) slot) * slot * sizeof(boost_sum) +
		leaves * (sizeof(boost_leaf) + 2 * sizeof(boost_node) + 24) +
		columns * (BOOST_MAX_BINS * 4 + sizeof(boost_column) + sizeof(boost_codes)) +
		fmin(r, 200000) * 16 + n_classes * 24.0;
}

static bool
is_sane(const lrn_info *info)
{
	if (info->task == LRN_REGRESS)
		return info->n_classes == 0 && info->n_outputs == 1;
	return info->task == LRN_CLASSIFY && info->n_classes >= 2 && info->n_outputs == info->n_classes;
}

/* Generous: a page's nodes cost 1 to 20 ns together, by instruction set. */
static double
row_ns(const lrn_model *m)
{
	return (double) m->n_pages * 60 + (double) m->info.n_outputs * 20 + (double) m->n_used * 20 + 200;
}

static void
predict(const lrn_model *m, const float *rows, int64_t n, float *out)
{
	lrn_kernels_for(m->isa)->boost_rows(m, rows, n, out);
}

static const lrn_param params[] =
{
	LRN_PARAM_RANDOM_STATE,
	LRN_PARAM_TASK,
	LRN_PARAM(learning_rate, POSITIVE, .init = 0.1),
	LRN_PARAM(max_iter, INT, .init = 100, .low = 1, .high = 100000),
	LRN_PARAM(max_leaf_nodes, INT, .init = 31, .low = 2, .high = MOST_LEAVES, .nullable = true),
	LRN_PARAM(max_depth, INT, .low = 1, .nullable = true),
	LRN_PARAM(min_samples_leaf, COUNT_OR_SHARE, .init = 20, .low = 1),
	LRN_PARAM(min_child_weight, REAL, .init = 1e-3),
	LRN_PARAM(min_split_gain, REAL),
	LRN_PARAM(l2_regularization, REAL),
	LRN_PARAM(max_bins, INT, .init = 255, .low = 2, .high = BOOST_MAX_BINS),
	LRN_PARAM(subsample, REAL, .init = 1, .high = 1),
	LRN_PARAM(colsample_bytree, REAL, .init = 1, .high = 1),
	LRN_PARAM(early_stopping, BOOL),
	LRN_PARAM(validation_fraction, REAL, .init = 0.1, .high = 1),
	LRN_PARAM(n_iter_no_change, INT, .init = 10, .low = 1),
	LRN_PARAM(tol, REAL, .init = 1e-7),
	LRN_PARAM_CLASS_WEIGHTS,
	LRN_PARAM_CALIBRATION(LRN_CALIBRATION_NONE),
	{.name = "n_estimators", .type = LRN_PARAM_INT, .offset = offsetof(lrn_params, max_iter), .init = 100, .low = 1, .high = 100000},
	LRN_PARAM_END
};

const lrn_learner lrn_gradient_boosting = {
	.algorithm = LRN_GRADIENT_BOOSTING,
	.name = "gradient_boosting",
	.tasks = LRN_CAN(LRN_CLASSIFY) | LRN_CAN(LRN_REGRESS),
	.takes = LRN_TAKES_MISSING | LRN_TAKES_CATEGORIES | LRN_TAKES_WEIGHTS,
	.params = params,
	.memory = memory_needed,
	.train = lrn_boost_train,
	.sane = is_sane,
	.check = lrn_boost_check,
	.compile = lrn_boost_compile,
	.open = lrn_boost_open,
	.trees = &lrn_boost_trees,
	.export = lrn_trees_export,
	.row_ns = row_ns,
	.predict = predict,
};
