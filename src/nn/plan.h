/*
 * plan.h
 *	  The planner's own view of a compiled file, before offsets are known.
 */
#ifndef MILLRACE_NN_PLAN_H
#define MILLRACE_NN_PLAN_H

#include "nn/lower.h"

/* A tensor of the plan.  One graph value may have two: plain and blocked. */
typedef struct nn_ptensor
{
	nn_ftensor	t;				/* offset relative to its place until written */
	int			value;			/* constants: whose data */
	int			alias_of;		/* shares that tensor's memory, -1: its own */
	int			alias_blk;		/* ... from this block of channels on */
	bool		pinned;			/* claimed by a concat: no other alias may */
	int			first,			/* steps, of roots */
				last;
} nn_ptensor;

/* What goes into the file's second part for a step. */
typedef struct nn_pstep
{
	nn_fstep	s;
	const nn_node *node;		/* of the weights to pack */
	const nn_node *expand,		/* joined steps: the same of the others */
			   *depthwise;
	float	   *scale_shift;
	uint64_t	scratch;
} nn_pstep;

typedef struct nn_planner
{
	nn_graph   *g;
	nn_isa		isa;
	const nn_kernels *k;
	int			n_tensors,
				cap_tensors;
	nn_ptensor *tensors;
	int			n_steps,
				cap_steps;
	nn_pstep   *steps;
	int			n_operands,
				cap_operands;
	int32_t    *operands;
	int		   *plain_of,		/* by value: tensor, -1 */
			   *blocked_of;
	nn_margin  *margin;			/* by value: what its convolutions read */
	int			outputs[NN_MAX_PORTS];	/* tensors */
	uint64_t	content;		/* bytes of constants and packs so far */
	uint64_t	arena;
	uint64_t	scratch;
	int			max_operands;
} nn_planner;

/* plan.c */
extern mr_code nn_lower_graph(nn_planner *p);

/* arena.c: in-place pairs, lifetimes, offsets, dead-output masks. */
extern mr_code nn_plan_arena(nn_planner *p);

/* emit.c */
extern mr_code nn_emit(nn_planner *p, uint8_t **file, size_t *len);

/* The tensor whose memory t shares, and from which block on. */
extern int	nn_plan_root(const nn_planner *p, int t, int *blk);

#endif							/* MILLRACE_NN_PLAN_H */
