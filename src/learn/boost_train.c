/*
 * boost_train.c
 *	  Gradient boosting: rounds of trees against the gradient of the loss, with
 *	  scikit-learn's names (HistGradientBoosting) and LightGBM's where it has
 *	  none.
 *
 * Losses: softmax (a tree a class and round), logistic for two classes,
 * squared error for regression.  Trees start from the prior, as LightGBM's do.
 * Early stopping holds out rows and keeps the rounds up to the best one.
 *
 * Body of the model bytes:
 *	 f64 base of each margin (1 for two classes and regression, else n_classes)
 *	 per feature: varint n_categories (0 = numbers); if any: varint n_own and
 *		 n_own varint codes, those with a number of their own: 0 .. n_own-1; the
 *		 other codes are n_own, the missing value is n_own + 1
 *	 u32 n_rounds; per round a tree a margin:
 *	 varint n_nodes and the nodes in preorder:
 *	 inner  varint feature << 3 | category << 2 | missing_left << 1, then
 *			f32 threshold (x <= threshold goes left), or of a category u8 n and
 *			n bytes with a bit for each number that goes left;
 *			f32 gain, varint cover
 *	 leaf   varint 1, f32 value, varint cover
 * cover counts the rows that reached the node.
 */
#include "learn/boost.h"

#include <math.h>
#include <string.h>

#define BLOCK	1024			/* rows between interrupts in cheap loops */

/* Residuals shrink: their unit is chosen anew each round. */
static mr_code
find_residual_unit(boost_builder *b, mr_status *st)
{
	float		most = 0;

	for (uint32_t i = 0; i < b->rows; i++)
	{
		float		g = fabsf(b->score[i] - b->target[i]) * (b->weight ? b->weight[i] : 1);

		most = g > most ? g : most;
		if (i % 65536 == 0 && boost_work(b, 65536 * 8, st))
			return MR_CANCELED;
	}
	b->g_unit = 1 / boost_scale(most, 1 << 30);
	return MR_OK;
}

/* What the kernels need to know of margin k from row first on. */
static lrn_boost_rows
rows_of(const boost_builder *b, int k, size_t first)
{
	return (lrn_boost_rows) {
		.score = b->score + (size_t) k * b->padded + first,
		.target = b->target ? b->target + first : NULL,
		.class_id = b->class_id ? b->class_id + first : NULL,
		.class = b->loss == BOOST_LOGISTIC ? 1 : k,
		.weight = b->weight ? b->weight + first : NULL,
		.top = b->top ? b->top + first : NULL,
		.inverse = b->inverse ? b->inverse + first : NULL,
		.base = b->loss == BOOST_SQUARED ? 0 : (float) b->base[k],
		.h_factor = b->h_factor,
		.g_scale = (float) (1 / b->g_unit),
		.h_scale = (float) (1 / b->h_unit),
	};
}

static mr_code
find_softmax(boost_builder *b, mr_status *st)
{
	for (size_t i = 0; i < b->padded && b->top; i += BLOCK)
	{
		size_t		n = b->padded - i < BLOCK ? b->padded - i : BLOCK;

		b->kernels->boost_softmax(b->score + i, b->padded, b->base, b->n_margins, (int64_t) n,
								  b->top + i, b->inverse + i);
		if (boost_work(b, (int64_t) n * b->n_margins * 8, st))
			return MR_CANCELED;
	}
	return MR_OK;
}

/* Mean loss of the rows held out, or of those learnt from. */
static mr_code
find_loss(boost_builder *b, double *loss, mr_status *st)
{
	const float *weight = b->valid_weight ? b->valid_weight : b->weight;
	double		sum = 0,
				total = 0;

	for (size_t i = 0; i < b->rows; i += BLOCK)
	{
		size_t		n = b->padded - i < BLOCK ? b->padded - i : BLOCK,
					real = b->rows - i < BLOCK ? b->rows - i : BLOCK;
		float		out[BLOCK],
					own[BLOCK];
		lrn_boost_rows a = rows_of(b, 0, i);

		a.weight = weight ? weight + i : NULL;
		if (b->loss == BOOST_SOFTMAX)
		{
			memset(own, 0, sizeof(own));
			for (size_t r = 0; r < real; r++)
			{
				int32_t		c = b->class_id[i + r];

				own[r] = b->score[(size_t) c * b->padded + i + r] + (float) b->base[c];
			}
			a.score = own;
		}
		b->kernels->boost_losses(&a, (int64_t) n, out);
		for (size_t r = 0; r < real; r++)
		{
			sum += out[r];
			total += weight ? weight[i + r] : 1;
		}
		if (boost_work(b, (int64_t) n * 12, st))
			return MR_CANCELED;
	}
	*loss = sum / total;
	return MR_OK;
}

/* Columns that the next tree may use. */
static void
choose_columns(boost_builder *b, lrn_rng *rng)
{
	int			want = (int) (b->p->colsample_bytree * b->n_columns + 0.5);

	want = want < 1 ? 1 : want;
	memset(b->use_group, 0, (size_t) b->stride * sizeof(bool));
	for (int c = 0; c < b->n_columns; c++)
	{
		b->use[c] = want >= b->n_columns - c || (int) lrn_rng_below(rng, (uint32_t) (b->n_columns - c)) < want;
		want -= b->use[c];
		b->use_group[c / BOOST_GROUP] |= b->use[c];
	}
}

/* A node and all below it, in preorder. */
static void
write_tree(const boost_builder *b, lrn_writer *w)
{
	uint32_t   *stack = b->stack;
	uint32_t	used = 0;

	lrn_put_varint(w, b->n_nodes);
	stack[used++] = 0;
	while (used > 0)
	{
		const boost_node *n = &b->node[stack[--used]];
		const boost_column *col;

		if (n->column < 0)
		{
			lrn_put_varint(w, 1);
			lrn_put_f32(w, n->value);
			lrn_put_varint(w, n->cover);
			continue;
		}
		col = &b->column[n->column];
		if (col->category)
		{
			uint8_t		byte[32];
			int			n_bytes = 32;

			for (int i = 0; i < 32; i++)
				byte[i] = (uint8_t) (n->set.bit[i / 8] >> (i % 8 * 8));
			while (n_bytes > 0 && byte[n_bytes - 1] == 0)
				n_bytes--;
			lrn_put_varint(w, (uint64_t) col->feature << 3 | 4);
			lrn_put_varint(w, (uint64_t) n_bytes);
			lrn_put(w, byte, (size_t) n_bytes);
		}
		else
		{
			lrn_put_varint(w, (uint64_t) col->feature << 3 | (boost_in(&n->set, (unsigned) col->n_bins) ? 2 : 0));
			lrn_put_f32(w, n->bin < col->n_bins - 1 ? col->upper[n->bin] : INFINITY);
		}
		lrn_put_f32(w, n->gain);
		lrn_put_varint(w, n->cover);
		stack[used++] = n->right;
		stack[used++] = n->left;
	}
}

static void
write_head(const boost_builder *b, lrn_writer *w)
{
	for (int k = 0; k < b->n_margins; k++)
		lrn_put_f64(w, b->base[k]);
	for (int c = 0; c < b->m->cols; c++)
	{
		const boost_codes *codes = &b->codes[c];

		lrn_put_varint(w, (uint64_t) codes->n_categories);
		if (codes->n_categories == 0)
			continue;
		lrn_put_varint(w, (uint64_t) codes->n_own);
		for (int i = 0; i < codes->n_own; i++)
			lrn_put_varint(w, (uint64_t) codes->own[i]);
	}
}

/* One round: a tree a margin, all against the scores at its start. */
static mr_code
boost_round(boost_builder *b, int round, const uint32_t *rows, bool *grown, lrn_writer *w, mr_status *st)
{
	lrn_rng		rng;

	lrn_rng_seed(&rng, b->p->random_state, (uint64_t) round * 2 + 4);
	*grown = false;
	if (b->loss == BOOST_SQUARED && find_residual_unit(b, st))
		return MR_CANCELED;
	for (int k = 0; k < b->n_margins; k++)
	{
		mr_code		code;

		for (size_t i = 0; i < b->padded; i += BLOCK)
		{
			lrn_boost_rows a = rows_of(b, k, i);
			size_t		n = b->padded - i < BLOCK ? b->padded - i : BLOCK;

			b->kernels->boost_gradients(&a, (int64_t) n, &b->pair[i].g);
			if (boost_work(b, (int64_t) n * 16, st))
				return MR_CANCELED;
		}
		choose_columns(b, &rng);
		memcpy(b->row, rows, b->rows * sizeof(uint32_t));
		code = boost_grow(b, b->score + (size_t) k * b->padded, st);
		if (code)
			return code;
		*grown |= b->n_nodes > 1;
		b->all_nodes += b->n_nodes;
		write_tree(b, w);
	}
	return MR_OK;
}

/* Rounds until max_iter or until the rows held out gain no more; rows: as many as there are. */
static mr_code
boost_rounds(boost_builder *b, uint32_t *rows, lrn_report *report, lrn_writer *w, mr_status *st)
{
	const lrn_params *p = b->p;
	uint32_t	want = (uint32_t) fmax(1, p->subsample * b->n_train + 0.5);
	bool		sampled = want < b->n_train || p->colsample_bytree < 1;
	size_t		at_rounds = w->len,
				kept_len;
	int			kept = 0;
	double		best = INFINITY;
	mr_code		code = find_softmax(b, st);

	lrn_put_u32(w, 0);			/* rounds, set at the end */
	kept_len = w->len;
	if (code == MR_OK && b->valid_weight)
		code = find_loss(b, &best, st);
	report->loss = best;
	b->n_row = want;
	memcpy(rows, b->base_row, b->rows * sizeof(uint32_t));
	for (int round = 0; round < p->max_iter && code == MR_OK; round++)
	{
		double		loss = NAN;
		bool		grown;

		if (want < b->n_train)
		{
			lrn_rng		rng;

			lrn_rng_seed(&rng, p->random_state, (uint64_t) round * 2 + 3);
			code = boost_choose(b, &rng, b->base_row, b->n_train, want, rows, st);
		}
		if (code == MR_OK)
			code = boost_round(b, round, rows, &grown, w, st);
		if (code == MR_OK)
			code = find_softmax(b, st);
		if (code == MR_OK && (p->progress || b->valid_weight || round == p->max_iter - 1 || !grown))
			code = find_loss(b, &loss, st);
		if (code || w->failed)
			break;
		if (p->progress)
			p->progress(p->progress_arg, round + 1, p->max_iter, loss);
		/* Early stopping keeps the rounds up to the best, else all are kept. */
		if (!b->valid_weight || loss < best - p->tol)
		{
			best = loss;
			kept = round + 1;
			kept_len = w->len;
			report->loss = loss;
			report->nodes = b->all_nodes;
		}
		else if (round + 1 - kept >= p->n_iter_no_change)
			break;
		if (!grown && !sampled)
			break;				/* nor would the rounds to come */
	}
	report->iterations = kept;
	report->converged = true;	/* as many rounds as were asked for is no failure */
	report->depth = b->depth;
	if (code == MR_OK && !w->failed)
	{
		w->len = kept_len;
		for (int i = 0; i < 4; i++)
			w->data[at_rounds + (size_t) i] = (uint8_t) ((uint32_t) kept >> (8 * i));
	}
	return code;
}

/* Rows and slots are known now: everything that is not a column's. */
static mr_code
take_memory(boost_builder *b, uint32_t **rows, mr_status *st)
{
	size_t		width = b->padded;
	size_t		slots;

	b->slot_size = (size_t) b->stride * BOOST_GROUP * BOOST_STRIDE;
	slots = (size_t) boost_slots(b->p, b->rows, b->slot_size);
	b->n_slots = (int) slots;
#define NEW(ptr, n, size) if (((ptr) = boost_alloc(b, (n), (size), st)) == NULL) return st->code
	NEW(b->slot, slots * b->slot_size, sizeof(boost_sum));
	NEW(b->free_slot, slots, sizeof(int));
	NEW(b->leaf, (size_t) b->max_leaves, sizeof(boost_leaf));
	NEW(b->leaf_gain, (size_t) b->max_leaves, sizeof(double));
	NEW(b->node, (size_t) b->max_leaves * 2, sizeof(boost_node));
	NEW(b->stack, (size_t) b->max_leaves * 2, sizeof(uint32_t));
	NEW(b->use, (size_t) b->n_columns + 1, sizeof(bool));
	NEW(b->use_group, (size_t) b->stride + 1, sizeof(bool));
	NEW(b->row, width, sizeof(uint32_t));
	NEW(b->row_tmp, width, sizeof(uint32_t));
	NEW(*rows, width, sizeof(uint32_t));
	NEW(b->pair, width, sizeof(boost_pair));
	NEW(b->base, (size_t) b->n_margins, sizeof(double));
	NEW(b->score, (size_t) b->n_margins * width, sizeof(float));
	memset(b->score, 0, (size_t) b->n_margins * width * sizeof(float));
	if (b->loss == BOOST_SQUARED)
	{
		NEW(b->target, width, sizeof(float));
		memset(b->target, 0, width * sizeof(float));
	}
	else
	{
		NEW(b->class_id, width, sizeof(int32_t));
		memset(b->class_id, 0, width * sizeof(int32_t));
		memcpy(b->class_id, b->t->class_id, b->rows * sizeof(int32_t));
	}
	if (b->loss == BOOST_SOFTMAX)
	{
		NEW(b->top, width, sizeof(float));
		NEW(b->inverse, width, sizeof(float));
	}
#undef NEW
	return MR_OK;
}

static void
free_all(boost_builder *b, uint32_t *rows)
{
	void	   *all[] = {
		b->column, b->codes, b->bins, b->use, b->use_group, b->base_row, b->row, b->row_tmp, b->weight,
		b->valid_weight, b->target, b->class_id, b->score, b->base, b->top, b->inverse, b->pair, b->slot,
		b->free_slot, b->leaf, b->leaf_gain, b->node, b->stack, rows
	};

	for (int c = 0; c < b->n_columns; c++)
	{
		mr_free(b->env, b->column[c].upper);
		mr_free(b->env, b->column[c].bin);
	}
	for (int c = 0; c < b->m->cols && b->codes; c++)
		mr_free(b->env, b->codes[c].own);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		mr_free(b->env, all[i]);
}

mr_code
lrn_boost_train(const mr_env *env, const lrn_params *p, const lrn_matrix *m,
				const lrn_target *t, lrn_report *report, uint8_t **file, size_t *len, mr_status *st)
{
	bool		classify = p->task == LRN_CLASSIFY;
	int			n_outputs = classify ? t->n_classes : 1;
	lrn_info	info = {LRN_GRADIENT_BOOSTING, p->task, m->cols, classify ? t->n_classes : 0, n_outputs};
	boost_builder b = {
		.env = env, .p = p, .m = m, .t = t, .kernels = lrn_kernels_for(p->isa),
		.loss = !classify ? BOOST_SQUARED : n_outputs == 2 ? BOOST_LOGISTIC : BOOST_SOFTMAX,
		.rows = (uint32_t) m->rows, .padded = ((size_t) m->rows + 15) & ~(size_t) 15,
		.min_rows = fmax(1, p->min_samples_leaf < 1 ? ceil(p->min_samples_leaf * (double) m->rows) : p->min_samples_leaf),
		.max_leaves = boost_leaves(p, m->rows)
	};
	uint32_t   *rows = NULL;
	lrn_writer	w;
	mr_code		code;

	b.n_margins = b.loss == BOOST_SOFTMAX ? n_outputs : 1;
	b.h_factor = b.loss == BOOST_SOFTMAX ? (float) n_outputs / (float) (n_outputs - 1) : 1;
	lrn_file_begin(&w, env, p->max_memory);
	code = boost_bin_columns(&b, st);
	if (code == MR_OK)
		code = take_memory(&b, &rows, st);
	if (code == MR_OK)
		code = boost_find_weights(&b, st);
	if (code == MR_OK)
		code = boost_hold_out(&b, st);
	if (code == MR_OK)
		code = boost_find_base(&b, st);
	if (code == MR_OK)
	{
		boost_find_units(&b);
		write_head(&b, &w);
		code = boost_rounds(&b, rows, report, &w, st);
	}
	if (code == MR_OK)
		code = lrn_file_end(&w, &info, st);
	report->memory = b.memory + w.size;
	free_all(&b, rows);
	if (code)
	{
		mr_free(env, w.data);
		return code;
	}
	*file = w.data;
	*len = w.len;
	return MR_OK;
}
