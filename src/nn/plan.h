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
	/* plan_low.c: forms in 8 or 16 bits, blocked and plain; what a stored value was before */
	int		   *low_of,
			   *rows_of,
			   *raw_of;
	nn_isa		isa_asked;		/* may be beyond isa: for kernels of fewer bits */
	bool	   *bf16;			/* by value: kept in bfloat16; NULL: none is */
	bool		low_used[3];	/* by nn_low_kind */
	bool		observed;		/* every value of the graph must appear in a run */
	nn_margin  *margin;			/* by value: what its convolutions read */
	int			outputs[NN_MAX_PORTS];	/* tensors */
	uint64_t	arena;
	uint32_t	group;			/* images that go through the steps together */
	uint64_t	scratch;
	int			max_operands;
} nn_planner;

/* plan_low.c: the least level that all kernels of the plan need. */
extern nn_isa nn_plan_isa(const nn_planner *p);

/* plan.c */
extern mr_code nn_lower_graph(nn_planner *p);

/* arena.c: in-place pairs, lifetimes, offsets, dead-output masks. */
extern mr_code nn_plan_arena(nn_planner *p);

/* ---- content.c: constants and packs of a file, equal ones once ---- */

typedef struct nn_content
{
	const mr_env *env;
	struct nn_piece *pieces;
	int			n,
				cap;
	int		   *slots;			/* hash table of pieces + 1 */
	uint64_t	len;
} nn_content;

/* Zeroed memory for a piece; NULL: no memory. */
extern void *nn_content_new(nn_content *c, uint64_t len);

/* The filled memory becomes a piece (and is released, if there is one with the
 * same bytes): its offset in the content.  False: no memory; released, too. */
extern bool nn_content_add(nn_content *c, void *bytes, uint64_t len, uint64_t *at);

/* Copy all to dst, releasing them on the way. */
extern void nn_content_copy(nn_content *c, uint8_t *dst);
extern void nn_content_free(nn_content *c);

/* ---- emit.c ---- */

/* A plan as it will stand in the file, offsets relative to its own start and to
 * that of the content. */
typedef struct nn_emitted
{
	nn_fplan	head;
	uint8_t    *bytes;			/* from mr_alloc() */
} nn_emitted;

extern mr_code nn_emit_plan(nn_planner *p, nn_content *content, nn_emitted *out);

/* All plans and the content, which it takes over, as one file. */
extern mr_code nn_emit_file(const mr_env *env, nn_isa isa, int n, const nn_emitted *plans, nn_content *content,
							uint8_t **file, size_t *len, mr_status *st);

/* A file of this plan alone. */
extern mr_code nn_emit(nn_planner *p, uint8_t **file, size_t *len);

/* The tensor whose memory t shares, and from which block on. */
extern int	nn_plan_root(const nn_planner *p, int t, int *blk);

#endif							/* MILLRACE_NN_PLAN_H */
