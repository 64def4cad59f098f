/*
 * arena.c
 *	  Memory of a run: who shares with whom, lives how long, lies where.
 *
 * Tensors that share memory (views, parts of a concat, in-place results) form
 * a tree; its root owns the bytes.  Roots are placed in order of their first
 * step into the lowest gap that is free from first to last step.
 */
#include "nn/plan.h"
#include "nn/steps.h"

#include <string.h>

int
nn_plan_root(const nn_planner *p, int t, int *blk)
{
	int			b = 0;

	while (p->tensors[t].alias_of >= 0)
	{
		b += p->tensors[t].alias_blk;
		t = p->tensors[t].alias_of;
	}
	if (blk)
		*blk = b;
	return t;
}

/* Shorten chains: each tensor points at its root. */
static void
flatten_aliases(nn_planner *p)
{
	for (int i = 0; i < p->n_tensors; i++)
		if (p->tensors[i].alias_of >= 0)
		{
			int			blk;
			int			root = nn_plan_root(p, i, &blk);

			p->tensors[i].alias_of = root;
			p->tensors[i].alias_blk = blk;
		}
}

static void
lifetimes(nn_planner *p)
{
	for (int i = 0; i < p->n_tensors; i++)
	{
		p->tensors[i].first = p->n_steps;
		p->tensors[i].last = -1;
	}
	for (int i = 0; i < p->n_steps; i++)
	{
		const nn_fstep *s = &p->steps[i].s;

		for (int k = 0; k < s->n_in + s->n_out; k++)
		{
			int			t = p->operands[s->operands + (uint32_t) k];
			nn_ptensor *r;

			if (t < 0)
				continue;
			r = &p->tensors[nn_plan_root(p, t, NULL)];
			r->first = i < r->first ? i : r->first;
			r->last = i > r->last ? i : r->last;
		}
	}
	for (int i = 0; i < p->g->n_outputs; i++)
		p->tensors[nn_plan_root(p, p->outputs[i], NULL)].last = p->n_steps;
}

/* Elementwise steps write over an input that nobody reads afterwards. */
static bool
in_place_step(const nn_fstep *s)
{
	if (s->kind == nn_step_binary || s->kind == nn_step_low_binary || s->kind == nn_step_scale_shift ||
		s->kind == nn_step_layernorm)
		return true;
	if (s->kind != nn_step_plain)
		return false;
	return nn_ops[s->op].run == nn_run_activation || nn_ops[s->op].run == nn_run_unary;
}

static void
share_in_place(nn_planner *p)
{
	for (int i = 0; i < p->n_steps; i++)
	{
		const nn_fstep *s = &p->steps[i].s;
		int			out;

		if (!in_place_step(s))
			continue;
		out = p->operands[s->operands + (uint32_t) s->n_in];
		if (p->tensors[out].alias_of >= 0 || p->tensors[out].first != i)
			continue;
		for (int k = 0; k < s->n_in; k++)
		{
			int			in = p->operands[s->operands + (uint32_t) k];
			nn_ptensor *a,
					   *b = &p->tensors[out];

			if (in < 0 || in == out)
				continue;
			a = &p->tensors[in];
			if (a->alias_of >= 0 || a->t.place != nn_place_arena || a->last != i || a->t.dtype != b->t.dtype ||
				a->t.blocked != b->t.blocked || a->t.elements != b->t.elements ||
				a->t.c != b->t.c || a->t.h != b->t.h || a->t.w != b->t.w ||
				memcmp(&a->t.margin, &b->t.margin, sizeof(nn_margin)) != 0)
				continue;
			b->alias_of = in;
			b->alias_blk = 0;
			a->last = b->last;
			break;
		}
	}
}

static void
max_margin(nn_margin *to, const nn_margin *m)
{
	to->top = m->top > to->top ? m->top : to->top;
	to->left = m->left > to->left ? m->left : to->left;
	to->bottom = m->bottom > to->bottom ? m->bottom : to->bottom;
	to->right = m->right > to->right ? m->right : to->right;
}

/* Bytes of a root; sets its pitches.  False: too large. */
static bool
root_size(nn_ftensor *t, size_t *bytes)
{
	if (!t->blocked)
		return mr_mul_size((size_t) t->elements, nn_dtype_size(t->dtype), bytes);
	t->row_pitch = (uint64_t) NN_LANES * (uint64_t) (t->margin.left + t->w + t->margin.right);
	t->blk_pitch = t->row_pitch * (uint64_t) (t->margin.top + t->h + t->margin.bottom);
	/* blocks 4 KB apart would fight for the same cache sets */
	if (t->blk_pitch % 1024 == 0)
		t->blk_pitch += NN_LANES;
	return t->blk_pitch < UINT64_C(1) << 40 &&
		mr_mul_size((size_t) t->blk_pitch * sizeof(float), (size_t) nn_elem_blocks(nn_ftensor_elem(t), t->c), bytes);
}

typedef struct slot
{
	uint64_t	offset,
				bytes;
	int			last;
} slot;

/* First-fit over the live slots, which are kept in order of offset. */
static mr_code
place_roots(nn_planner *p)
{
	nn_graph   *g = p->g;
	slot	   *live = nn_heap_alloc(g->heap, (size_t) p->n_tensors + 1, sizeof(slot));
	int		   *by_first = nn_heap_alloc(g->heap, (size_t) p->n_tensors + 1, sizeof(int));
	int		   *count = nn_heap_alloc(g->heap, (size_t) p->n_steps + 2, sizeof(int));
	int			n_live = 0,
				n_roots = 0;

	if (!live || !by_first || !count)
		return g->st->code;
	/* counting sort by first step; tensors that no step touches are left out */
	for (int i = 0; i < p->n_tensors; i++)
		if (p->tensors[i].alias_of < 0 && p->tensors[i].t.place == nn_place_arena && p->tensors[i].last >= 0 &&
			p->tensors[i].first < p->n_steps)
			count[p->tensors[i].first + 1]++;
	for (int i = 1; i <= p->n_steps; i++)
		count[i] += count[i - 1];
	for (int i = 0; i < p->n_tensors; i++)
		if (p->tensors[i].alias_of < 0 && p->tensors[i].t.place == nn_place_arena && p->tensors[i].last >= 0 &&
			p->tensors[i].first < p->n_steps)
		{
			by_first[count[p->tensors[i].first]++] = i;
			n_roots++;
		}
	for (int i = 0; i < n_roots; i++)
	{
		nn_ptensor *t = &p->tensors[by_first[i]];
		size_t		bytes = 0;
		uint64_t	at = 0;
		int			keep = 0,
					where;

		if ((i & 63) == 63 && mr_interrupted(g->env))
			return mr_fail(g->st, MR_CANCELED, "canceled while compiling a model");
		if (!root_size(&t->t, &bytes) || bytes > SIZE_MAX / 4)
			return mr_fail(g->st, MR_LIMIT, "the model's tensors are too large");
		bytes = (bytes + 63) & ~(size_t) 63;
		for (int k = 0; k < n_live; k++)
			if (live[k].last >= t->first)
				live[keep++] = live[k];
		n_live = keep;
		for (where = 0; where < n_live; where++)
		{
			if (live[where].offset >= at && live[where].offset - at >= bytes)
				break;
			if (live[where].offset + live[where].bytes > at)
				at = live[where].offset + live[where].bytes;
		}
		memmove(live + where + 1, live + where, (size_t) (n_live - where) * sizeof(slot));
		live[where].offset = at;
		live[where].bytes = bytes;
		live[where].last = t->last;
		n_live++;
		t->t.offset = at;
		if (at + bytes > p->arena)
			p->arena = at + bytes;
		if (p->arena > g->opt->max_memory)
			return mr_fail(g->st, MR_LIMIT, "a run of the model needs more than the %zu bytes allowed",
						   g->opt->max_memory);
	}
	return MR_OK;
}

/* Which outputs each step is for: a run skips what nobody wants. */
static mr_code
find_wanted(nn_planner *p)
{
	uint64_t   *need = nn_heap_alloc(p->g->heap, (size_t) p->n_tensors + 1, sizeof(uint64_t));

	if (need == NULL)
		return p->g->st->code;
	for (int i = 0; i < p->g->n_outputs; i++)
		need[nn_plan_root(p, p->outputs[i], NULL)] |= UINT64_C(1) << i;
	for (int i = p->n_steps - 1; i >= 0; i--)
	{
		nn_fstep   *s = &p->steps[i].s;

		for (int k = s->n_in; k < s->n_in + s->n_out; k++)
		{
			int			t = p->operands[s->operands + (uint32_t) k];

			if (t >= 0)
				s->wanted |= need[nn_plan_root(p, t, NULL)];
		}
		for (int k = 0; k < s->n_in; k++)
		{
			int			t = p->operands[s->operands + (uint32_t) k];

			if (t >= 0)
				need[nn_plan_root(p, t, NULL)] |= s->wanted;
		}
	}
	return MR_OK;
}

/*
 * How many images go through the steps together: as many as fill a block of rows
 * of the products, whose weights are then read once for all of them.  Tensors lie
 * once an image; only plain ones that share whole can.
 */
#define GROUP_ROWS 112
#define GROUP_BYTES (UINT64_C(16) << 20)	/* of all their tensors */
#define MAX_FOLD_OPERANDS 16

static bool
can_fold(const nn_planner *p, const nn_fstep *s)
{
	const nn_ftensor *t[MAX_FOLD_OPERANDS];

	if (s->n_in + s->n_out > MAX_FOLD_OPERANDS)
		return false;
	for (int k = 0; k < s->n_in + s->n_out; k++)
	{
		int			at = p->operands[s->operands + (uint32_t) k];

		t[k] = at < 0 ? NULL : &p->tensors[at].t;
	}
	return nn_step_can_fold(s, t);
}

static void
choose_group(nn_planner *p)
{
	int			rows = 0;

	p->group = 1;
	for (int i = 0; i < p->n_tensors; i++)
	{
		const nn_ptensor *t = &p->tensors[i];
		const nn_ptensor *r = &p->tensors[nn_plan_root(p, i, NULL)];

		if (t->t.place == nn_place_arena &&
			(t->t.blocked || t->t.dtype != r->t.dtype || t->t.elements != r->t.elements))
			return;
	}
	for (int i = 0; i < p->g->n_outputs; i++)
		for (int k = 0; k < NN_MAX_RANK; k++)
			if (p->g->values[p->g->outputs[i]].dynamic[k])
				return;
	for (int i = 0; i < p->n_steps; i++)
	{
		nn_fstep   *s = &p->steps[i].s;

		s->folds = can_fold(p, s);
		if (s->folds && s->kind == nn_step_gemm && s->u.gemm.m > rows)
			rows = s->u.gemm.m;
		else if (s->folds && s->kind == nn_step_plain && rows == 0)
			rows = 1;
	}
	if (rows == 0 || rows > GROUP_ROWS / 2)
		return;
	p->group = (uint32_t) (GROUP_ROWS / rows);
	if (p->arena > 0 && p->group > GROUP_BYTES / p->arena)
		p->group = (uint32_t) (GROUP_BYTES / p->arena);
	if (p->group < 1)
		p->group = 1;
}

mr_code
nn_plan_arena(nn_planner *p)
{
	flatten_aliases(p);
	lifetimes(p);
	share_in_place(p);
	flatten_aliases(p);
	lifetimes(p);
	for (int i = 0; i < p->n_tensors; i++)
		if (p->tensors[i].alias_of >= 0 && p->tensors[i].t.blocked)
			max_margin(&p->tensors[p->tensors[i].alias_of].t.margin, &p->tensors[i].t.margin);
	NN_TRY(place_roots(p));
	/* Everybody else from the roots. */
	for (int i = 0; i < p->n_tensors; i++)
	{
		nn_ptensor *t = &p->tensors[i];
		const nn_ptensor *r = &p->tensors[nn_plan_root(p, i, NULL)];

		if (t->alias_of < 0)
			continue;
		t->t.place = r->t.place;
		t->t.offset = r->t.offset;
		t->value = r->value;
		if (t->t.blocked)
		{
			t->t.row_pitch = r->t.row_pitch;
			t->t.blk_pitch = r->t.blk_pitch;
			t->t.margin = r->t.margin;
		}
		t->t.offset += (uint64_t) t->alias_blk * r->t.blk_pitch * sizeof(float);
	}
	for (int i = 0; i < p->n_tensors; i++)
	{
		nn_ftensor *t = &p->tensors[i].t;

		if (t->blocked)
			t->offset += ((uint64_t) t->margin.top * t->row_pitch + (uint64_t) t->margin.left * NN_LANES) * sizeof(float);
	}
	for (int i = 0; i < p->n_steps; i++)
		p->scratch = p->steps[i].scratch > p->scratch ? p->steps[i].scratch : p->scratch;
	choose_group(p);
	return find_wanted(p);
}
