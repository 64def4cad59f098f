/*
 * steps.h
 *	  The kinds of steps: one table, one entry each; what a kind's file needs of
 *	  planner, compiled file and run.
 *
 * Everything about a family of steps is in its step_*.c: which nodes become one
 * (lower), what it leaves in the file (write), what nn_open() demands of it
 * (check), how it runs.  A check trusts nothing: whatever passes must be safe to
 * run.  A run allocates nothing and keeps nothing.
 */
#ifndef MILLRACE_NN_STEPS_H
#define MILLRACE_NN_STEPS_H

#include "nn/plan.h"

/* ---- nn_open ---- */

typedef struct nn_step_check
{
	const nn_fplan *h;
	const uint8_t *file;
	const nn_kernels *k;
	const nn_fstep *s;
	const nn_ftensor *const *t; /* s->n_in + s->n_out operands, NULL: omitted */
	const nn_low_kernels *const *low;	/* by kind; NULL: none here */
} nn_step_check;

/* The kernels of a step with fewer bits; NULL if there are none for it. */
static inline const nn_low_kernels *
nn_check_low(const nn_step_check *c)
{
	return c->s->low < nn_low_u8 || c->s->low > nn_low_w16 ? NULL : c->low[c->s->low];
}

/* Is a bool in a file 0 or 1?  Any other may not even be read as one. */
extern bool nn_good_flag(const bool *flag);

/* May these round to uint8? */
extern bool nn_good_quant(float scale, int zero);

/* An activation that kernels know? */
extern bool nn_good_act(const nn_act *a);

/* Blocked tensors of the same size? */
extern bool nn_same_view(const nn_ftensor *a, const nn_ftensor *b);

/* Is a window's last position within what input and pads can hold? */
extern bool nn_window_fits(int kernel, int stride, int dilation, int pad, int in, int out);

/* Does a border cover what a reader needs? */
extern bool nn_margin_covers(const nn_margin *have, const nn_margin *need);

/* Multiply-adds of a block. */
extern int64_t nn_mbconv_macs(const nn_mbconv *mb, int in_h, int in_w, int out_h, int out_w);

/* ---- a run ---- */

typedef struct nn_runner
{
	const nn_model *m;
	const nn_fplan *h;
	const nn_ftensor *tensors;
	const int32_t *operands;
	const nn_kernels *k;
	const mr_env *env;
	mr_status  *st;
	uint8_t    *arena;
	uint8_t    *scratch;
	int			group,			/* copies of each tensor in the arena, one an image */
				image;			/* which of them is at work */
	nn_tensor  *plain;			/* operands of the plain step at work */
	const uint8_t *inputs[NN_MAX_PORTS];	/* of the group's first image */
	int64_t		counts[NN_MAX_SLOTS];	/* sizes that depend on its data */
} nn_runner;

/* A step at work: its first and last operand at hand. */
typedef struct nn_step_run
{
	nn_runner  *r;
	const nn_fstep *s;
	const nn_kernels *k;
	int			images;			/* whose rows the step takes at once */
	const uint8_t *data;		/* s->data in the file */
	const nn_ftensor *tx,		/* first input, first output */
			   *ty;
	nn_view		x,				/* theirs; plain tensors: only data is set */
				y;
} nn_step_run;

/* Operand i (inputs, then outputs), NULL if omitted, and where it lies. */
/* May it take the rows of several images at once?  Steps that treat each row
 * alone, of operands t (inputs, outputs) that fit. */
extern bool nn_step_can_fold(const nn_fstep *s, const nn_ftensor *const *t);

extern const nn_ftensor *nn_step_operand(const nn_runner *r, const nn_fstep *s, int i);
extern uint8_t *nn_step_address(const nn_runner *r, const nn_ftensor *t);

static inline nn_view
nn_step_view(const nn_step_run *c, int i)
{
	const nn_ftensor *t = nn_step_operand(c->r, c->s, i);

	return nn_tensor_view(t, nn_step_address(c->r, t));
}

/* An operand with its scale, and the kernels, of a step with fewer bits. */
static inline nn_low_view
nn_step_low_view(const nn_step_run *c, int i)
{
	const nn_ftensor *t = nn_step_operand(c->r, c->s, i);
	nn_low_view v = {nn_tensor_view(t, nn_step_address(c->r, t)), nn_ftensor_quant(t)};

	return v;
}

static inline const nn_low_kernels *
nn_run_low(const nn_step_run *c)
{
	return c->r->m->low[c->s->low];
}

/* Told after each step of a run, when its output is complete. */
typedef struct nn_observer
{
	void		(*step) (void *arg, const nn_runner *r, uint32_t step);
	void	   *arg;
} nn_observer;

/* nn_run_typed() with an observer, NULL: none (run.c). */
extern mr_code nn_run_observed(const nn_model *m, const mr_env *env, void *workspace, int batch,
							   const void *const *inputs, void *const *outputs, const nn_observer *observer,
							   mr_status *st);

/* ---- the table ---- */

typedef struct nn_step_type
{
	nn_step_kind kind;			/* = its index */
	const char *name;			/* as model_plan shows it */
	int			max_in;			/* inputs; outputs: 1.  0: the kind's check counts */
	bool		blocked;		/* the output is a blocked tensor */
	bool		(*check) (const nn_step_check *c);
	/* Either run, or run_lines for lines [y0, y1) of lines(), whose default is
	 * the output's height: then the caller cuts and asks for interrupts. */
	mr_code		(*run) (nn_step_run *c);
	void		(*run_lines) (nn_step_run *c, int y0, int y1);
	int			(*lines) (const nn_step_run *c);
	/* Parameters in words, "3x3 stride 2, relu": NULL if there are none. */
	void		(*describe) (const nn_fstep *s, char *text, size_t size);
	/* The s.data_len bytes of s in the file; NULL if there are never any. */
	mr_code		(*write) (nn_planner *p, const nn_pstep *s, void *dst);
} nn_step_type;

/* For describe: append more, after a comma if text is not empty; NULL: nothing. */
extern void nn_step_say(char *text, size_t size, const char *more);

extern const nn_step_type nn_step_types[nn_step_last + 1];

/* ---- lowering ---- */

typedef enum nn_lowered
{
	nn_lower_no = 0,			/* not for this kind of step: go on */
	nn_lower_done,
	nn_lower_failed				/* p->g->st says why: memory, limits */
} nn_lowered;

extern nn_lowered nn_lower_conv(nn_planner *p, nn_node *n);
extern nn_lowered nn_lower_pool(nn_planner *p, nn_node *n);
extern nn_lowered nn_lower_global_pool(nn_planner *p, nn_node *n);
extern nn_lowered nn_lower_batchnorm(nn_planner *p, nn_node *n);
extern nn_lowered nn_lower_activation(nn_planner *p, nn_node *n);
extern nn_lowered nn_lower_binary(nn_planner *p, nn_node *n);
extern nn_lowered nn_lower_gemm(nn_planner *p, nn_node *n);
extern nn_lowered nn_lower_layernorm(nn_planner *p, nn_node *n);
extern nn_lowered nn_lower_attention(nn_planner *p, nn_node *n);
extern nn_lowered nn_lower_concat(nn_planner *p, nn_node *n);
extern nn_lowered nn_lower_split(nn_planner *p, nn_node *n);
extern nn_lowered nn_lower_resize(nn_planner *p, nn_node *n);
extern nn_lowered nn_lower_slice(nn_planner *p, nn_node *n);
extern nn_lowered nn_lower_shortcut(nn_planner *p, nn_node *n);
extern nn_lowered nn_lower_alias(nn_planner *p, nn_node *n);
extern nn_lowered nn_lower_plain(nn_planner *p, nn_node *n);

/* Steps with fewer bits, tried first: step_lowmove.c, and its layers in step_low.c. */
extern nn_lowered nn_lower_low(nn_planner *p, nn_node *n);
extern nn_lowered nn_lower_low_layer(nn_planner *p, nn_node *n);

#define NN_LOWER(expr) do { nn_lowered lowered_ = (expr); if (lowered_ != nn_lower_done) return lowered_; } while (0)

/* Join steps that one kernel does at once; after all nodes were lowered. */
extern mr_code nn_join_mbconv(nn_planner *p);

/* A new tensor for a value in one of its layouts; -1: failed. */
extern int	nn_plan_tensor(nn_planner *p, int value, bool blocked);

/* The value in that layout, converted by a step if need be; -1: failed. */
extern int	nn_plan_plain(nn_planner *p, int value);
extern int	nn_plan_blocked(nn_planner *p, int value);

/* Is the value at hand in blocked form, and a blocked kernel thus the choice? */
static inline bool
nn_plan_has_blocked(const nn_planner *p, int value)
{
	return value >= 0 && (p->blocked_of[value] >= 0 || p->low_of[value] >= 0);
}

/* ---- plan_low.c: forms of a value in 8 bits (stored) or bfloat16 ---- */

/* Which values are kept in bfloat16 when that precision is asked for. */
extern mr_code nn_plan_bf16(nn_planner *p);

/* The elements it is kept in where a kernel of few bits makes it. */
extern nn_elem nn_plan_elem(const nn_planner *p, int value);

/* A new tensor, blocked or plain rows; -1: failed. */
extern int	nn_plan_low_tensor(nn_planner *p, int value);
extern int	nn_plan_rows_tensor(nn_planner *p, int value);

/* The value in that form, converted by a step if need be; -1: failed. */
extern int	nn_plan_low(nn_planner *p, int value);
extern int	nn_plan_rows(nn_planner *p, int value);

/* Does it exist in forms of few bits only?  Then nn_plan_float() makes a float32 one. */
extern bool nn_plan_is_low(const nn_planner *p, int value);
extern int	nn_plan_float(nn_planner *p, int value, bool blocked);

/* After the steps that made a value: a stored one's float32 form is set aside. */
extern void nn_plan_settle(nn_planner *p, int value);

extern nn_pstep *nn_plan_low_step(nn_planner *p, nn_step_kind kind, nn_low_kind low, int n_in, const int *in, int out);

/* A new step with its operands, the rest zero.  NULL: failed. */
extern nn_pstep *nn_plan_step(nn_planner *p, nn_step_kind kind, int n_in, const int *in, int n_out, const int *out);

/* A step with one blocked output, of value, and a few operations an element. */
extern nn_pstep *nn_plan_blocked_step(nn_planner *p, nn_step_kind kind, int n_in, const int *in, int value, nn_act act);

/* Room for a step's bytes in the file. */
extern void nn_plan_data(nn_planner *p, nn_pstep *s, uint64_t bytes);

/* The nn_conv of a convolution node as steps and packs see it. */
extern nn_conv nn_plan_conv(const nn_graph *g, const nn_node *n);

/* The same of a pool's window. */
extern nn_pool nn_plan_pool(const nn_node *n);

#endif							/* MILLRACE_NN_STEPS_H */
