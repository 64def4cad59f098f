/*
 * forest_train.c
 *	  Random forest (Breiman, 2001) and extra trees (Geurts, Ernst and Wehenkel,
 *	  2006), for classes and for values, with scikit-learn's parameters.
 *
 * Trees are independent given the seed: tree t draws from stream t.  Each is
 * written to the model bytes as soon as it is grown, so that memory holds one
 * tree and the bytes.  Rows that a tree did not draw vote for the out-of-bag
 * score.
 *
 * Body of the model bytes: varint 0, varint flags (FOREST_FLAG_*), varint
 * n_trees; per tree varint n_nodes and the nodes in preorder (left child next,
 * right child after the left subtree):
 *	 inner  varint feature << 2 | missing_left << 1, f32 threshold
 *			(x <= threshold goes left), cover
 *	 leaf   varint class << 2 | 1, cover (all rows of one class), or
 *			varint k << 2 | 3, k times (varint class, f32 share), cover; in a
 *			regression varint 1, f32 value, cover
 * cover is the weight of the drawn rows that reached the node: a varint, or an
 * f32 by flag.  Preorder needs no child indices: a damaged file can be wrong,
 * but it cannot point anywhere.  The first format had no 0 and no flags.
 */
#include "learn/forest.h"
#include "learn/learner.h"

#include <math.h>
#include <string.h>

/* A count that is given as such or as a share of the rows. */
static uint32_t
count_of(double v, int64_t rows, uint32_t least)
{
	double		n = v < 1 ? ceil(v * (double) rows) : v;

	n = n > (double) UINT32_MAX / 4 ? (double) UINT32_MAX / 4 : n;
	return n < least ? least : (uint32_t) n;
}

static int
features_per_split(const lrn_params *p, int cols)
{
	double		n = cols;

	switch (p->max_features_kind)
	{
		case LRN_FEATURES_SQRT:
			n = floor(sqrt((double) cols));
			break;
		case LRN_FEATURES_LOG2:
			n = floor(log2((double) cols));
			break;
		case LRN_FEATURES_BY_TASK:
			n = p->task == LRN_REGRESS ? cols : floor(sqrt((double) cols));
			break;
		case LRN_FEATURES_ALL:
			break;
		case LRN_FEATURES_COUNT:
			n = p->max_features;
			break;
		case LRN_FEATURES_FRACTION:
			n = floor(p->max_features * cols);
			break;
	}
	return n < 1 ? 1 : n > cols ? cols : (int) n;
}

/*
 * Draw the rows of one tree into b->item, ascending; count[] is scratch and
 * afterwards holds how often each row was drawn (0 = out of bag).
 */
static mr_code
draw_rows(forest_builder *b, const double *base_weight, double *tree_weight,
		  uint32_t *count, double *per_class, mr_status *st)
{
	const int32_t *y = b->target->class_id;
	const float *sample_weight = b->target->weight;
	int64_t		rows = b->m->rows;
	mr_code		code;

	if (b->p->bootstrap)
	{
		double		share = b->p->max_samples;
		uint32_t	draws = share == 0 ? (uint32_t) rows :
			share < 1 ? (uint32_t) fmax(round(share * (double) rows), 1) :
			(uint32_t) fmin(share, (double) rows);

		memset(count, 0, (size_t) rows * sizeof(uint32_t));
		for (uint32_t i = 0; i < draws; i++)
		{
			count[lrn_rng_below(&b->rng, (uint32_t) rows)]++;
			if ((i & 0xFFF) == 0xFFF && (code = forest_work(b, 4096 * 6, st)) != MR_OK)
				return code;
		}
	}
	else
		for (int64_t i = 0; i < rows; i++)
			count[i] = 1;

	memset(per_class, 0, (size_t) b->n_classes * sizeof(double));
	b->n_items = 0;
	for (int64_t i = 0; i < rows; i++)
	{
		uint32_t	n = count[i] > 0xFFFF ? 0xFFFF : count[i];
		int32_t		class = b->regress ? 0 : y[i];

		per_class[class] += n;
		if (n > 0 && base_weight[class] > 0 && (sample_weight == NULL || sample_weight[i] > 0))
			b->item[b->n_items++] = ITEM(i, class, n);
		if ((i & 0xFFF) == 0xFFF && (code = forest_work(b, 4096 * 4, st)) != MR_OK)
			return code;
	}
	memcpy(tree_weight, base_weight, (size_t) b->n_classes * sizeof(double));
	if (b->p->class_weight == LRN_WEIGHT_BALANCED_SUBSAMPLE)
	{
		double		sum = 0;

		for (int c = 0; c < b->n_classes; c++)
			sum += per_class[c];
		lrn_class_weights(b->p, LRN_WEIGHT_BALANCED, per_class, sum, b->n_classes, tree_weight);
	}
	b->class_weight = tree_weight;
	b->weighing = b->regress ? FOREST_VALUES : sample_weight ? FOREST_ROW_WEIGHTS : FOREST_COUNTS;
	for (int c = 0; c < b->n_classes && b->weighing == FOREST_COUNTS; c++)
		if (tree_weight[c] != 1 && per_class[c] > 0)
			b->weighing = FOREST_CLASS_WEIGHTS;
	return MR_OK;
}

static void
write_leaf(const forest_builder *b, const forest_node *n, lrn_writer *w)
{
	const float *share = b->dist + n->leaf;
	uint64_t	k = 0;

	if (b->regress)
	{
		lrn_put_varint(w, 1);
		lrn_put_f32(w, share[0]);
		return;
	}
	if (n->pure)
	{
		lrn_put_varint(w, (uint64_t) n->leaf << 2 | 1);
		return;
	}
	for (int c = 0; c < b->n_classes; c++)
		k += share[c] > 0;
	lrn_put_varint(w, k << 2 | 3);
	for (int c = 0; c < b->n_classes; c++)
		if (share[c] > 0)
		{
			lrn_put_varint(w, (uint64_t) c);
			lrn_put_f32(w, share[c]);
		}
}

static void
write_tree(const forest_builder *b, uint32_t flags, lrn_writer *w)
{
	lrn_put_varint(w, b->n_nodes);
	for (uint32_t i = 0; i < b->n_nodes; i++)
	{
		const forest_node *n = &b->node[i];

		if (n->feature >= 0)
		{
			lrn_put_varint(w, (uint64_t) n->feature << 2 | (uint64_t) n->missing_left << 1);
			lrn_put_f32(w, n->threshold);
		}
		else
			write_leaf(b, n, w);
		if (flags & FOREST_FLAG_WEIGHTS)
			lrn_put_f32(w, (float) n->cover);
		else
			lrn_put_varint(w, (uint64_t) n->cover);
	}
}

static int
votes_per_row(bool regress, int n_classes)
{
	return regress ? 2 : n_classes;
}

/*
 * Votes of the tree in hand for the rows it did not draw: votes_per_row(), by
 * class, or the sum of the values and how many they are.
 */
static mr_code
vote(forest_builder *b, const uint32_t *count, float *votes, mr_status *st)
{
	int			n_votes = votes_per_row(b->regress, b->n_classes);

	for (int64_t i = 0; i < b->m->rows; i++)
	{
		const forest_node *n = b->node;
		float	   *v = votes + i * n_votes;

		if (count[i] > 0)
			continue;
		while (n->feature >= 0)
			n = forest_goes_left(b->m->col[n->feature][i], n->threshold, n->missing_left) ? n + 1 : b->node + n->right;
		if (b->regress)
		{
			v[0] += (float) ((double) b->dist[n->leaf] - b->centre);
			v[1] += 1;
		}
		else if (n->pure)
			v[n->leaf] += 1;
		else
			for (int c = 0; c < b->n_classes; c++)
				v[c] += b->dist[n->leaf + (uint32_t) c];
		if ((i & 0xFFF) == 0 && forest_work(b, 4096 * 300, st) != MR_OK)
			return MR_CANCELED;
	}
	return MR_OK;
}

/* Share of the rows with votes whose first greatest vote is right. */
static double
oob_accuracy(const forest_builder *b, const int32_t *y, const float *votes)
{
	int64_t		right = 0,
				voted = 0;

	for (int64_t i = 0; i < b->m->rows; i++)
	{
		const float *v = votes + i * b->n_classes;
		int			best = 0;

		for (int c = 1; c < b->n_classes; c++)
			if (v[c] > v[best])
				best = c;
		if (v[best] > 0)
		{
			voted++;
			right += best == y[i];
		}
	}
	return voted ? (double) right / (double) voted : NAN;
}

/* Coefficient of determination of the rows with votes. */
static double
oob_r2(const forest_builder *b, const float *votes)
{
	double		residual = 0,
				sum = 0,
				square = 0,
				n = 0;

	for (int64_t i = 0; i < b->m->rows; i++)
		if (votes[2 * i + 1] > 0)
		{
			double		y = (double) b->target->value[i] - b->centre,
						error = (double) (votes[2 * i] / votes[2 * i + 1]) - y;

			residual += error * error;
			sum += y;
			square += y * y;
			n++;
		}
	square -= n > 0 ? sum * sum / n : 0;
	return square > 0 ? 1 - residual / square : NAN;
}

/* Mean of the values: sums of what is left round less. */
static double
mean_value(const lrn_matrix *m, const lrn_target *t)
{
	double		sum = 0;

	for (int64_t i = 0; i < m->rows; i++)
		sum += (double) t->value[i];
	return sum / (double) m->rows;
}

static mr_code
grow_all(forest_builder *b, lrn_report *report, lrn_writer *w, mr_status *st)
{
	const lrn_params *p = b->p;
	const int32_t *y = b->target->class_id;
	uint32_t	flags;
	size_t		rows = (size_t) b->m->rows;
	size_t		classes = (size_t) b->n_classes;
	double	   *scratch;		/* 6 x n_classes */
	double	   *base_weight,
			   *tree_weight,
			   *per_class;
	uint32_t   *count;
	float	   *votes = NULL;
	size_t		vote_bytes = 0;
	bool		want_votes;
	mr_code		code;

	b->min_leaf = count_of(p->min_samples_leaf, b->m->rows, 1);
	b->min_split = count_of(p->min_samples_split, b->m->rows, 2);
	b->mtry = features_per_split(p, b->m->cols);
	b->max_depth = p->max_depth;

	b->column = forest_alloc(b, (size_t) b->m->cols, sizeof(forest_column), st);
	if (b->column == NULL)
		return st->code;
	memset(b->column, 0, (size_t) b->m->cols * sizeof(forest_column));
	if (!b->random_cuts)
	{
		code = forest_rank_columns(b, st);
		if (code)
			return code;
	}

#define NEW(ptr, n, size) if (((ptr) = forest_alloc(b, (n), (size), st)) == NULL) return st->code
	NEW(b->item, rows, sizeof(forest_item));
	NEW(b->item_tmp, rows, sizeof(forest_item));
	NEW(b->key, rows, sizeof(uint64_t));
	NEW(b->key_tmp, rows, sizeof(uint64_t));
	if (b->regress || b->target->weight)
		NEW(b->row_weight, rows, sizeof(double));
	if (b->regress)
		NEW(b->row_value, rows, sizeof(double));
	NEW(b->feature_order, (size_t) b->m->cols, sizeof(int));
	NEW(b->total, classes * 6, sizeof(double));
	/* item_tmp serves a partition, count a whole tree: they cannot share. */
	scratch = b->total;
	b->left = scratch + classes;
	base_weight = scratch + 2 * classes;
	tree_weight = scratch + 3 * classes;
	per_class = scratch + 4 * classes;
	b->count = (uint32_t *) (scratch + 5 * classes);
	if (b->entropy)
	{
		b->n_nlogn = (uint32_t) (rows < 1048576 ? rows + 1 : 1048576);
		NEW(b->nlogn, b->n_nlogn, sizeof(double));
		b->nlogn[0] = 0;
		for (uint32_t i = 1; i < b->n_nlogn; i++)
			b->nlogn[i] = i * log((double) i);
	}

	memset(per_class, 0, classes * sizeof(double));
	for (size_t i = 0; i < rows; i++)
		per_class[b->regress ? 0 : y[i]]++;
	lrn_class_weights(p, b->regress || p->class_weight == LRN_WEIGHT_BALANCED_SUBSAMPLE ? LRN_WEIGHT_NONE : p->class_weight,
					  per_class, (double) rows, b->n_classes, base_weight);

	want_votes = p->bootstrap && p->oob_score != 0 && mr_mul_size(rows, (size_t) votes_per_row(b->regress, b->n_classes) * sizeof(float), &vote_bytes) &&
		(p->oob_score > 0 || vote_bytes <= (size_t) 256 << 20);
	if (want_votes)
	{
		NEW(votes, vote_bytes, 1);
		memset(votes, 0, vote_bytes);
	}
	count = forest_alloc(b, rows, sizeof(uint32_t), st);
	if (count == NULL)
	{
		mr_free(b->env, votes);
		return st->code;
	}

	/* Covers are integers where weights are. */
	flags = b->entropy ? FOREST_FLAG_ENTROPY : 0;
	if (b->target->weight || (!b->regress && p->class_weight != LRN_WEIGHT_NONE))
		flags |= FOREST_FLAG_WEIGHTS;
	lrn_put_varint(w, 0);
	lrn_put_varint(w, flags);
	lrn_put_varint(w, (uint64_t) p->n_estimators);
	for (int t = 0; t < p->n_estimators && code == MR_OK; t++)
	{
		lrn_rng_seed(&b->rng, p->random_state, (uint64_t) t);
		for (int c = 0; c < b->m->cols; c++)
			b->feature_order[c] = c;
		code = draw_rows(b, base_weight, tree_weight, count, per_class, st);
		if (code == MR_OK && b->n_items == 0)
			code = mr_fail(st, MR_INVALID, "no row that was drawn has a positive weight");
		/* The tables of integers serve only while weights are integers. */
		if (b->nlogn && b->weighing != FOREST_COUNTS)
		{
			mr_free(b->env, b->nlogn);
			b->nlogn = NULL;
		}
		if (code == MR_OK)
			code = forest_grow(b, st);
		if (code)
			break;
		write_tree(b, flags, w);
		if (w->failed)
			break;
		report->nodes += b->n_nodes;
		if (votes)
			code = vote(b, count, votes, st);
		if (p->progress && code == MR_OK)
			p->progress(p->progress_arg, t + 1, p->n_estimators, NAN);
	}
	if (code == MR_OK && votes)
		report->oob_score = b->regress ? oob_r2(b, votes) : oob_accuracy(b, y, votes);
	report->depth = b->depth;
	report->iterations = p->n_estimators;
	report->converged = true;
	mr_free(b->env, votes);
	mr_free(b->env, count);
	return code;
#undef NEW
}

static mr_code
train(const mr_env *env, const lrn_params *p, const lrn_matrix *m,
	  const lrn_target *t, lrn_report *report, uint8_t **file, size_t *len, mr_status *st)
{
	bool		regress = p->task == LRN_REGRESS;
	int			outputs = regress ? 1 : t->n_classes;
	forest_builder b = {.env = env, .p = p, .m = m, .target = t, .n_classes = outputs, .regress = regress};
	lrn_info	info = {p->algorithm, p->task, m->cols, regress ? 0 : outputs, outputs};
	lrn_writer	w;
	mr_code		code;

	if (regress != (p->criterion == LRN_SQUARED_ERROR) && p->criterion != LRN_CRITERION_BY_TASK)
		return mr_fail(st, MR_INVALID, regress ? "the criterion of a regression is \"squared_error\"" :
					   "criterion \"squared_error\" is for regression");
	b.entropy = p->criterion == LRN_ENTROPY;
	b.random_cuts = p->algorithm == LRN_EXTRA_TREES;
	b.centre = regress ? mean_value(m, t) : 0;
	lrn_file_begin(&w, env, p->max_memory);
	code = grow_all(&b, report, &w, st);
	if (code == MR_OK)
		code = lrn_file_end(&w, &info, st);
	report->memory = b.memory + w.size;
	if (b.column)
		for (int c = 0; c < m->cols; c++)
		{
			mr_free(env, b.column[c].rank);
			mr_free(env, b.column[c].value);
		}
	mr_free(env, b.column);
	mr_free(env, b.item);
	mr_free(env, b.item_tmp);
	mr_free(env, b.key);
	mr_free(env, b.key_tmp);
	mr_free(env, b.row_weight);
	mr_free(env, b.row_value);
	mr_free(env, b.feature_order);
	mr_free(env, b.total);
	mr_free(env, b.nlogn);
	mr_free(env, b.node);
	mr_free(env, b.dist);
	if (code)
	{
		mr_free(env, w.data);
		return code;
	}
	*file = w.data;
	*len = w.len;
	return MR_OK;
}

static double
memory_needed(const lrn_params *p, int64_t rows, int cols, int n_classes)
{
	bool		regress = p->task == LRN_REGRESS;
	double		r = (double) rows,
				d = cols,
				k = votes_per_row(regress, n_classes),
				need;

	/* ranks and distinct values; items and keys twice; draws; weights and
	 * values of a node's rows; votes */
	need = (p->algorithm == LRN_EXTRA_TREES ? 0 : r * d * 8) + r * 36 + r * 8 + (regress ? r * 8 : 0) + k * 48;
	if (p->bootstrap && (p->oob_score > 0 || (p->oob_score < 0 && r * k * 4 <= 256.0 * 1048576)))
		need += r * k * 4;
	if (p->criterion == LRN_ENTROPY)
		need += fmin(r + 1, 1048576) * 8;
	return need;
}

static bool
is_sane(const lrn_info *info)
{
	return info->task == LRN_REGRESS ? info->n_outputs == 1 : info->n_classes == info->n_outputs;
}

static const lrn_choice criteria[] =
{
	{"gini", LRN_GINI},
	{"entropy", LRN_ENTROPY},
	{"log_loss", LRN_ENTROPY},
	{"squared_error", LRN_SQUARED_ERROR},
	{.name = NULL}
};

/* One list but for the default of bootstrap. */
#define PARAMS(bootstrap_init) \
	LRN_PARAM_RANDOM_STATE, \
	LRN_PARAM_TASK, \
	LRN_PARAM(n_estimators, INT, .init = 100, .low = 1, .high = 100000), \
	LRN_PARAM(criterion, CHOICE, .init = LRN_CRITERION_BY_TASK, .choices = criteria), \
	LRN_PARAM(max_depth, INT, .low = 1, .nullable = true), \
	LRN_PARAM(min_samples_split, COUNT_OR_SHARE, .init = 2, .low = 2), \
	LRN_PARAM(min_samples_leaf, COUNT_OR_SHARE, .init = 1, .low = 1), \
	LRN_PARAM(min_impurity_decrease, REAL), \
	LRN_PARAM(max_features, MAX_FEATURES), \
	LRN_PARAM(bootstrap, BOOL, .init = (bootstrap_init)), \
	LRN_PARAM(max_samples, COUNT_OR_SHARE, .low = 1, .nullable = true), \
	LRN_PARAM(oob_score, MAYBE, .init = -1), \
	LRN_PARAM_CLASS_WEIGHTS, \
	LRN_PARAM_CALIBRATION(LRN_CALIBRATION_NONE), \
	LRN_PARAM_END

static const lrn_param forest_params[] = {PARAMS(true)};
static const lrn_param extra_params[] = {PARAMS(false)};

#define FOREST_LEARNER \
	.tasks = LRN_CAN(LRN_CLASSIFY) | LRN_CAN(LRN_REGRESS), \
	.takes = LRN_TAKES_MISSING | LRN_TAKES_CATEGORIES | LRN_TAKES_WEIGHTS, \
	.memory = memory_needed, \
	.train = train, \
	.sane = is_sane, \
	.check = lrn_forest_check, \
	.compile = lrn_forest_compile, \
	.open = lrn_forest_open, \
	.trees = &lrn_forest_trees, \
	.export = lrn_trees_export, \
	.row_ns = lrn_forest_row_ns, \
	.predict = lrn_forest_predict

const lrn_learner lrn_random_forest = {
	.algorithm = LRN_RANDOM_FOREST,
	.name = "random_forest",
	.params = forest_params,
	FOREST_LEARNER
};

const lrn_learner lrn_extra_trees = {
	.algorithm = LRN_EXTRA_TREES,
	.name = "extra_trees",
	.params = extra_params,
	FOREST_LEARNER
};
