/*
 * step_mbconv.c
 *	  Expand 1x1, depthwise, project 1x1 as one step (kernels_mbconv.c).
 *
 * Found among the steps, after lowering: a depthwise step whose input is made
 * for it alone by a 1x1 convolution, or whose output is read by a 1x1
 * convolution alone, or both.  The packs of the three lie one behind the other.
 */
#include "nn/steps_impl.h"

#include <stdio.h>
#include <string.h>

#define MAX_REACH 64			/* lines that a depthwise kernel or stride may span */

static uint64_t
align64(uint64_t n)
{
	return (n + 63) & ~UINT64_C(63);
}

/* Where each convolution's pack lies in a step's data; returns their end. */
static uint64_t
pack_places(nn_isa isa, const nn_mbconv *mb, uint64_t at[3], uint64_t len[3])
{
	uint64_t	end = 0;

	len[0] = mb->expand.cout ? nn_conv_pack_size(isa, &mb->expand) : 0;
	len[1] = nn_depthwise_pack_size(isa, &mb->dw);
	len[2] = mb->project.cout ? nn_conv_pack_size(isa, &mb->project) : 0;
	for (int i = 0; i < 3; i++)
		if (len[i])
		{
			at[i] = align64(end);
			end = at[i] + len[i];
		}
	return end;
}

/* ---- finding them ---- */

/* By tensor: the step that writes it, how many read it. */
typedef struct tensor_use
{
	int			writer;			/* -1: none or several */
	int			readers;
} tensor_use;

/* Is t an intermediate result that its only reader may keep to itself? */
static bool
is_private(const nn_planner *p, const tensor_use *use, int t)
{
	const nn_ptensor *pt = &p->tensors[t];

	return pt->alias_of < 0 && !pt->pinned && pt->t.place == nn_place_arena && use[t].readers == 1 &&
		use[t].writer >= 0;
}

/* A 1x1 convolution of blocked pixels? */
static bool
is_pointwise(const nn_conv *cv)
{
	return cv->form == nn_conv_blocked && cv->groups == 1 && cv->kh == 1 && cv->kw == 1 && cv->sh == 1 && cv->sw == 1 &&
		cv->dh == 1 && cv->dw == 1 && cv->pt == 0 && cv->pl == 0;
}

/* Is step s one, and without pads below or to the right? */
static bool
is_pointwise_step(const nn_planner *p, const nn_pstep *s)
{
	const int32_t *ops = p->operands + s->s.operands;
	const nn_ftensor *x = &p->tensors[ops[0]].t,
			   *y = &p->tensors[ops[s->s.n_in]].t;

	return s->s.kind == nn_step_conv && is_pointwise(&s->s.u.conv) && x->h == y->h && x->w == y->w;
}

/* An intermediate tensor that no longer exists. */
static void
drop_tensor(nn_ptensor *t)
{
	memset(&t->t.shape, 0, sizeof(t->t.shape));
	t->t.shape.rank = 1;
	t->t.elements = 0;
	t->t.blocked = 0;
}

/* Join steps e (or -1), d and q (or -1) into the last of them; the others die. */
static void
join(nn_planner *p, int e, int d, int q, bool *dead)
{
	const int32_t *ops = p->operands;
	nn_pstep   *last = &p->steps[q >= 0 ? q : d];
	const nn_pstep *first = &p->steps[e >= 0 ? e : d];
	int			x = ops[first->s.operands],
				y = ops[p->steps[d].s.operands + (uint32_t) p->steps[d].s.n_in];
	nn_fstep	s = last->s;
	const nn_ftensor *tx = &p->tensors[x].t,
			   *ty = &p->tensors[y].t;
	uint64_t	at[3],
				len[3];

	s.kind = nn_step_mbconv;
	memset(&s.u, 0, sizeof(s.u));
	s.u.mbconv.dw = p->steps[d].s.u.conv;
	if (e >= 0)
	{
		s.u.mbconv.expand = p->steps[e].s.u.conv;
		last->expand = p->steps[e].node;
		dead[e] = true;
	}
	last->depthwise = p->steps[d].node;
	if (q >= 0)
	{
		s.u.mbconv.project = last->s.u.conv;
		dead[d] = true;
	}
	s.macs = nn_mbconv_macs(&s.u.mbconv, tx->h, tx->w, ty->h, ty->w) / ty->h + 1;
	s.data_len = pack_places(p->isa, &s.u.mbconv, at, len);
	last->scratch = p->k->mbconv_scratch(&s.u.mbconv, tx->h, tx->w, ty->h, ty->w);
	if (q >= 0)
		drop_tensor(&p->tensors[y]);
	if (e >= 0)
		drop_tensor(&p->tensors[ops[p->steps[d].s.operands]]);
	p->operands[s.operands] = x;
	last->s = s;
}

mr_code
nn_join_mbconv(nn_planner *p)
{
	tensor_use *use = nn_heap_alloc(p->g->heap, (size_t) p->n_tensors + 1, sizeof(tensor_use));
	int		   *reader = nn_heap_alloc(p->g->heap, (size_t) p->n_tensors + 1, sizeof(int));
	bool	   *dead = nn_heap_alloc(p->g->heap, (size_t) p->n_steps + 1, sizeof(bool));
	int			keep = 0;

	if (!use || !reader || !dead)
		return p->g->st->code;
	for (int i = 0; i < p->n_tensors; i++)
		use[i].writer = -1;
	for (int i = 0; i < p->n_steps; i++)
	{
		const nn_fstep *s = &p->steps[i].s;

		for (int k = 0; k < s->n_in + s->n_out; k++)
		{
			int			t = p->operands[s->operands + (uint32_t) k];

			if (t < 0)
				continue;
			if (k < s->n_in)
			{
				use[t].readers++;
				reader[t] = i;
			}
			else
				use[t].writer = use[t].writer == -1 ? i : -2;
		}
	}
	/* outputs, and what others look into, are read once more */
	for (int i = 0; i < p->g->n_outputs; i++)
		use[p->outputs[i]].readers++;
	for (int i = 0; i < p->n_tensors; i++)
		if (p->tensors[i].alias_of >= 0)
			use[p->tensors[i].alias_of].readers++;
	for (int d = 0; d < p->n_steps; d++)
	{
		const nn_pstep *s = &p->steps[d];
		int			x = p->operands[s->s.operands],
					y = p->operands[s->s.operands + (uint32_t) s->s.n_in];
		int			e = -1,
					q = -1;

		if (s->s.kind != nn_step_depthwise || s->s.residual || s->s.u.conv.kh * s->s.u.conv.dh > MAX_REACH ||
			s->s.u.conv.sh > MAX_REACH)
			continue;
		if (is_private(p, use, x))
			e = use[x].writer;
		if (e >= 0 && (!is_pointwise_step(p, &p->steps[e]) || p->steps[e].s.residual))
			e = -1;
		if (is_private(p, use, y))
			q = reader[y];
		if (q >= 0 && (!is_pointwise_step(p, &p->steps[q]) || p->operands[p->steps[q].s.operands] != y))
			q = -1;
		if (e >= 0 || q >= 0)
			join(p, e, d, q, dead);
	}
	for (int i = 0; i < p->n_steps; i++)
		if (!dead[i])
			p->steps[keep++] = p->steps[i];
	p->n_steps = keep;
	return MR_OK;
}

/* ---- in the file ---- */

int64_t
nn_mbconv_macs(const nn_mbconv *mb, int in_h, int in_w, int out_h, int out_w)
{
	return (int64_t) in_h * in_w * mb->expand.cin * mb->expand.cout +
		(int64_t) out_h * out_w * mb->dw.cin * (mb->dw.kh * mb->dw.kw + mb->project.cout);
}

void
nn_step_describe_mbconv(const nn_fstep *s, char *text, size_t size)
{
	const nn_mbconv *mb = &s->u.mbconv;
	char		word[64];

	snprintf(word, sizeof(word), "%dx%d", mb->dw.kh, mb->dw.kw);
	nn_step_say(text, size, word);
	if (mb->dw.sh * mb->dw.sw > 1)
	{
		snprintf(word, sizeof(word), "stride %d", mb->dw.sh > mb->dw.sw ? mb->dw.sh : mb->dw.sw);
		nn_step_say(text, size, word);
	}
	if (mb->expand.cout)
	{
		snprintf(word, sizeof(word), "%d times as wide", mb->dw.cin / mb->expand.cin);
		nn_step_say(text, size, word);
	}
	if (!mb->project.cout)
		nn_step_say(text, size, "not projected");
	if (s->residual)
		nn_step_say(text, size, "+ residual");
}

static bool
write_pack(nn_planner *p, const nn_node *n, const nn_conv *cv, void *dst)
{
	const float *w = p->g->values[n->in[1]].data;
	const float *bias = n->n_in > 2 && n->in[2] >= 0 ? p->g->values[n->in[2]].data : NULL;

	if (cv->groups == 1)
		return nn_conv_pack(p->g->env, p->isa, cv, w, bias, dst);
	nn_depthwise_pack(p->isa, cv, w, bias, dst);
	return true;
}

mr_code
nn_step_write_mbconv(nn_planner *p, const nn_pstep *s, void *dst)
{
	const nn_mbconv *mb = &s->s.u.mbconv;
	uint64_t	at[3],
				len[3];

	pack_places(p->isa, mb, at, len);
	return nn_step_written(p, (!mb->expand.cout || write_pack(p, s->expand, &mb->expand, (char *) dst + at[0])) &&
						   write_pack(p, s->depthwise, &mb->dw, (char *) dst + at[1]) &&
						   (!mb->project.cout || write_pack(p, s->node, &mb->project, (char *) dst + at[2])));
}

bool
nn_step_check_mbconv(const nn_step_check *c)
{
	const nn_fstep *s = c->s;
	const nn_ftensor *x = c->t[0],
			   *y = c->t[s->n_in];
	const nn_mbconv *mb = &s->u.mbconv;
	const nn_conv *dw = &mb->dw;
	bool		expand = mb->expand.cout != 0,
				project = mb->project.cout != 0;
	nn_margin	m;
	uint64_t	at[3],
				len[3];

	if ((!expand && !project) || s->n_in != 1 + (s->residual != 0) || !x->blocked ||
		(s->residual && (!project || !nn_same_view(c->t[1], y))))
		return false;
	/* shapes, before any size is computed from them */
	if (dw->cin < 2 || dw->cin > 1 << 24 || dw->cout != dw->cin || dw->groups != dw->cin ||
		dw->kh > NN_MAX_DW_LINES || !nn_good_act(&dw->act) ||
		!nn_window_fits(dw->kh, dw->sh, dw->dh, dw->pt, x->h, y->h) ||
		!nn_window_fits(dw->kw, dw->sw, dw->dw, dw->pl, x->w, y->w))
		return false;
	if (expand ? !is_pointwise(&mb->expand) || mb->expand.cin != x->c || mb->expand.cout != dw->cin ||
		!nn_good_act(&mb->expand.act) : dw->cin != x->c)
		return false;
	if (project ? !is_pointwise(&mb->project) || mb->project.cin != dw->cin || mb->project.cout != y->c ||
		!nn_good_act(&mb->project.act) : dw->cin != y->c)
		return false;
	/* far from where the kernel's sizes would overflow */
	m = nn_conv_margin(dw, x->h, x->w, y->h, y->w);
	if ((double) dw->cin * ((double) m.left + x->w + m.right + y->w) * ((double) dw->kh * dw->dh + 2.0 * dw->sh + 2) > 1e15)
		return false;
	if (!expand && !nn_margin_covers(&x->margin, &m))
		return false;
	if (pack_places(c->k->isa, mb, at, len) != s->data_len ||
		c->k->mbconv_scratch(mb, x->h, x->w, y->h, y->w) > c->h->scratch)
		return false;
	return (!expand || nn_pack_check(c->file + s->data + at[0], len[0], c->k->isa, nn_pack_conv, &mb->expand)) &&
		nn_pack_check(c->file + s->data + at[1], len[1], c->k->isa, nn_pack_depthwise, dw) &&
		(!project || nn_pack_check(c->file + s->data + at[2], len[2], c->k->isa, nn_pack_conv, &mb->project));
}

void
nn_step_run_mbconv_lines(nn_step_run *c, int y0, int y1)
{
	const nn_fstep *s = c->s;
	uint64_t	at[3] = {0},
				len[3];
	const void *packs[3];
	nn_view		res;

	pack_places(c->k->isa, &s->u.mbconv, at, len);
	for (int i = 0; i < 3; i++)
		packs[i] = len[i] ? c->data + at[i] : NULL;
	if (s->residual)
		res = nn_step_view(c, 1);
	c->k->mbconv(&s->u.mbconv, packs, &c->x, s->residual ? &res : NULL, &c->y, y0, y1, c->r->scratch);
}
