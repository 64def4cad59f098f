/*
 * steps_impl.h
 *	  The functions that steps.c's table names.
 */
#ifndef MILLRACE_NN_STEPS_IMPL_H
#define MILLRACE_NN_STEPS_IMPL_H

#include "nn/steps.h"

#define STEP_CHECK(x) extern bool nn_step_check_##x(const nn_step_check *c)
#define STEP_RUN(x) extern mr_code nn_step_run_##x(nn_step_run *c)
#define STEP_LINES(x) extern void nn_step_run_##x##_lines(nn_step_run *c, int y0, int y1)
#define STEP_WRITE(x) extern mr_code nn_step_write_##x(nn_planner *p, const nn_pstep *s, void *dst)
#define STEP_TEXT(x) extern void nn_step_describe_##x(const nn_fstep *s, char *text, size_t size)
#define STEP_COUNT(x) extern int nn_step_count_##x(const nn_step_run *c)

STEP_CHECK(plain);
STEP_RUN(plain);
STEP_CHECK(conv);
STEP_LINES(conv);
STEP_WRITE(conv);
STEP_COUNT(winograd);
STEP_LINES(winograd);
STEP_CHECK(pool);
STEP_LINES(maxpool);
STEP_LINES(avgpool);
STEP_CHECK(global_pool);
STEP_RUN(global_pool);
STEP_CHECK(binary);
STEP_LINES(binary);
STEP_CHECK(scale_shift);
STEP_LINES(scale_shift);
STEP_WRITE(scale_shift);
STEP_CHECK(gemm);
STEP_COUNT(gemm);
STEP_LINES(gemm);
STEP_WRITE(gemm);
STEP_CHECK(layernorm);
STEP_COUNT(layernorm);
STEP_LINES(layernorm);
STEP_WRITE(layernorm);
STEP_CHECK(attention);
STEP_RUN(attention);
STEP_CHECK(layout);
STEP_LINES(to_blocked);
STEP_LINES(from_blocked);
STEP_COUNT(from_blocked);
STEP_CHECK(copy_channels);
STEP_LINES(copy_channels);
STEP_CHECK(shortcut);
STEP_LINES(shortcut);
STEP_CHECK(resize);
STEP_LINES(resize);
STEP_CHECK(mbconv);
STEP_LINES(mbconv);
STEP_WRITE(mbconv);
STEP_TEXT(mbconv);

STEP_TEXT(conv);
STEP_TEXT(pool);
STEP_TEXT(binary);
STEP_TEXT(act);
STEP_TEXT(gemm);
STEP_TEXT(layernorm);
STEP_TEXT(attention);
STEP_TEXT(move);

/* The form of a blocked convolution that is likely the fastest, where a direct one
 * does so many times the arithmetic of float32 (and reads as much less). */
extern nn_conv_form nn_winograd_choose(nn_conv cv, int out_h, int out_w, int per_cycle);

/* ---- step_view.c, of float32 tensors or of those with fewer bits ---- */

extern bool nn_plan_copy(nn_planner *p, bool low, int in, int from, int n, int out, int to);

/* Let part `in` of a concat, whose place in out is channel `at`, be written there by its producer.  False: it
 * cannot; nothing is done. */
extern bool nn_plan_place_part(nn_planner *p, const nn_node *n, bool low, int in, int out, int at);

extern nn_lowered nn_lower_split_as(nn_planner *p, nn_node *n, bool low);
extern nn_lowered nn_lower_slice_as(nn_planner *p, nn_node *n, bool low);

/* A Slice of nothing but channels that follow each other? */
extern bool nn_slices_channels(const nn_graph *g, const nn_node *n);

/* step_resize.c: nearest, of lines and pixels? */
extern bool nn_resize_picks(const nn_graph *g, const nn_node *n);

/* How a convolution in bfloat16 is done (plan_low.c): nn_conv_blocked by products of bfloat16, nn_conv_winograd2
 * or 4 in float32 between tensors of bfloat16.  False: not at all. */
extern bool nn_conv_takes_bf16(const nn_planner *p, const nn_node *n, nn_conv_form *form);
STEP_CHECK(low_conv);
STEP_LINES(low_conv);
STEP_COUNT(low_winograd);
STEP_LINES(low_winograd);
STEP_CHECK(low_resize);
STEP_LINES(low_resize);
STEP_CHECK(low_gemm);
STEP_LINES(low_gemm);
STEP_WRITE(low);
STEP_CHECK(low_pool);
STEP_LINES(low_pool);
STEP_CHECK(low_global);
STEP_RUN(low_global);
STEP_CHECK(low_binary);
STEP_LINES(low_binary);
STEP_CHECK(low_form);
STEP_COUNT(low_form);
STEP_LINES(low_form);
STEP_CHECK(low_copy);
STEP_LINES(low_copy);

/* The end of a write: were its packs written whole, or interrupted? */
static inline mr_code
nn_step_written(const nn_planner *p, bool whole)
{
	return whole ? MR_OK : mr_fail(p->g->st, MR_CANCELED, "canceled while compiling a model");
}

#endif							/* MILLRACE_NN_STEPS_IMPL_H */
