/*
 * kernels_mbconv.c
 *	  The blocks of mobile networks in one go: expand 1x1 -> depthwise -> project
 *	  1x1, for any instruction set.
 *
 * The expanded tensor is six times as large as the block's input and output, and
 * layer by layer it would travel to memory and back twice.  Here it never exists
 * as a whole.  For a few output lines at a time, and panel by panel of expanded
 * channels:
 *
 *		expand the new lines that the depthwise taps reach, into a ring
 *		depthwise from the ring into D, while the panel's lines are in L1
 *
 * then all of D is projected into the output.  Small maps need no ring: one
 * buffer holds all lines of a panel and serves every panel.  Expanded lines
 * outside the image are a line of zeros.
 *
 * Either 1x1 convolution may be missing: without the first the depthwise taps
 * read the input, whose border then covers nn_conv_margin(); without the second
 * D is the output.  Every output is computed by the same chain of operations as
 * layer by layer: the same bits.
 */
#include "nn/kernels_core.h"

#define WHOLE_PANEL (32 * 1024) /* bytes of a panel that shall stay in L1 */
#define WHOLE_D (512 * 1024)	/* ... of D that stays in L2 */

/* How a block is cut; depends on shapes alone. */
typedef struct cuts
{
	int			lines;			/* of output at a time */
	int			ring;			/* expanded lines of a panel */
	bool		carry;			/* each panel has its own ring, kept from one turn to the next */
	int			panels;
	nn_margin	margin;			/* of the expanded tensor */
	size_t		row_pitch,		/* of expanded lines, floats */
				blk_pitch,
				panel_pitch;
	size_t		d_pitch;		/* of a block of D */
	size_t		zeros,			/* offsets in scratch, floats */
				d,
				total;
} cuts;

static bool
has_expand(const nn_mbconv *mb)
{
	return mb->expand.cout > 0;
}

static bool
has_project(const nn_mbconv *mb)
{
	return mb->project.cout > 0;
}

/* Blocks 4 KB apart would fight for the same cache sets. */
static size_t
skew(size_t pitch)
{
	return pitch % 1024 == 0 ? pitch + NN_LANES : pitch;
}

/* Expanded lines that a ring holds for so many output lines at a time: so many
 * that the new lines of a turn lie side by side. */
static int
ring_lines(const nn_conv *dw, int lines)
{
	int			turn = lines * dw->sh;
	int			all = (lines - 1) * dw->sh + (dw->kh - 1) * dw->dh + 1;

	return (all + turn - 1) / turn * turn;
}

static cuts
cut_block(const nn_isa_ops *ops, const nn_mbconv *mb, int in_h, int in_w, int out_h, int out_w)
{
	const nn_conv *dw = &mb->dw;
	int			nb = nn_panel_blocks(ops->isa);
	int			blocks = nn_blocks(dw->cin);
	cuts		c = {0};
	size_t		line,
				d_line = (size_t) out_w * NN_LANES;

	c.margin = nn_conv_margin(dw, in_h, in_w, out_h, out_w);
	c.panels = (blocks + nb - 1) / nb;
	c.row_pitch = (size_t) (c.margin.left + in_w + c.margin.right) * NN_LANES;
	line = c.row_pitch * nb * sizeof(float);
	if (line * in_h <= WHOLE_PANEL && d_line * out_h * blocks * sizeof(float) <= WHOLE_D)
	{
		c.lines = out_h;
		c.ring = in_h;
	}
	else
	{
		size_t		wide = has_expand(mb) ? line : d_line * blocks * sizeof(float);

		c.carry = true;
		c.lines = dw->sh > 1 ? 1 : 2;
		while (c.lines * 2 <= out_h && ring_lines(dw, c.lines * 2) * wide <= WHOLE_PANEL &&
			   d_line * c.lines * 2 * blocks * sizeof(float) <= WHOLE_D)
			c.lines *= 2;
		if (c.lines > out_h)
			c.lines = out_h;
		c.ring = ring_lines(dw, c.lines);
	}
	c.blk_pitch = skew(c.row_pitch * c.ring);
	c.panel_pitch = c.blk_pitch * nb;
	c.d_pitch = skew(d_line * c.lines);
	if (has_expand(mb))
	{
		c.zeros = c.panel_pitch * (c.carry ? c.panels : 1);
		c.d = c.zeros + c.row_pitch;
	}
	c.total = c.d + (has_project(mb) ? c.d_pitch * blocks : 0);
	return c;
}

size_t
nn_drive_mbconv_scratch(const nn_isa_ops *ops, const nn_mbconv *mb, int in_h, int in_w, int out_h, int out_w)
{
	return sizeof(float) * cut_block(ops, mb, in_h, in_w, out_h, out_w).total;
}

/* Line y of a view and those behind it. */
static nn_view
lines_from(const nn_view *v, int y, int n)
{
	nn_view		w = *v;

	w.data += (size_t) y * v->row_pitch;
	w.h = n;
	return w;
}

/* Expand input lines [from, to) of one panel into its ring. */
static void
expand_lines(const nn_isa_ops *ops, const nn_mbconv *mb, const void *pack, const cuts *c, const nn_view *in, int ob,
			 float *ring, int from, int to)
{
	nn_view		out = {.c = mb->expand.cout - ob * NN_LANES, .w = in->w, .row_pitch = c->row_pitch,
		.blk_pitch = c->blk_pitch};
	int			most = nn_panel_blocks(ops->isa) * NN_LANES;

	if (out.c > most)
		out.c = most;
	while (from < to)
	{
		int			slot = from % c->ring;
		int			n = to - from < c->ring - slot ? to - from : c->ring - slot;
		nn_view		src = lines_from(in, from, n);

		out.data = ring + (size_t) slot * c->row_pitch + (size_t) c->margin.left * NN_LANES;
		out.h = n;
		nn_drive_panel(ops, &mb->expand, pack, ob, &src, &out);
		from += n;
	}
}

/* Output line y of block b, written to o.  ring: block b's lines, or NULL: the
 * input's. */
static void
depthwise_line(const nn_isa_ops *ops, const nn_conv *dw, const nn_dw_job *job, const cuts *c, const nn_view *in,
			   int b, const float *ring, const float *zeros, int y, float *o, int width)
{
	const float *line[NN_MAX_DW_LINES];

	for (int ky = 0; ky < dw->kh; ky++)
	{
		int			at = y * dw->sh - dw->pt + ky * dw->dh;

		if (ring == NULL)
			line[ky] = in->data + b * in->blk_pitch + (ptrdiff_t) at * (ptrdiff_t) in->row_pitch -
				(ptrdiff_t) dw->pl * NN_LANES;
		else if (at < 0 || at >= in->h)
			line[ky] = zeros;
		else
			line[ky] = ring + (size_t) (at % c->ring) * c->row_pitch;
	}
	ops->depthwise_line(dw, job, line, NULL, o, width);
}

/* The border of each ring line, and the line of zeros. */
static void
clear_borders(const cuts *c, int nb, int in_w, float *scratch)
{
	nn_view		v = {.c = nb * NN_LANES * (c->carry ? c->panels : 1), .h = c->ring, .w = in_w,
		.row_pitch = c->row_pitch, .blk_pitch = c->blk_pitch};
	nn_margin	sides = {.left = c->margin.left, .right = c->margin.right};

	v.data = scratch + (size_t) c->margin.left * NN_LANES;
	nn_border(&v, sides);
	memset(scratch + c->zeros, 0, c->row_pitch * sizeof(float));
}

void
nn_drive_mbconv(const nn_isa_ops *ops, const nn_mbconv *mb, const void *const *packs, const nn_view *in,
				const nn_view *res, const nn_view *out, int y0, int y1, void *scratch)
{
	const nn_conv *dw = &mb->dw;
	cuts		c = cut_block(ops, mb, in->h, in->w, out->h, out->w);
	int			nb = nn_panel_blocks(ops->isa);
	int			blocks = nn_blocks(dw->cin);
	int			reach = (dw->kh - 1) * dw->dh + 1;
	float	   *base = scratch;
	int			made = y0 * dw->sh - dw->pt;	/* lines below are expanded */

	if (has_expand(mb))
		clear_borders(&c, nb, in->w, base);
	made = made < 0 ? 0 : made;
	for (int y = y0; y < y1; y += c.lines)
	{
		int			n = y1 - y < c.lines ? y1 - y : c.lines;
		int			need = (y + n - 1) * dw->sh - dw->pt + reach;
		nn_view		to = lines_from(out, y, n);
		nn_view		d = to;

		need = need > in->h ? in->h : need;
		if (has_project(mb))
		{
			d.data = base + c.d;
			d.c = dw->cin;
			d.row_pitch = (size_t) out->w * NN_LANES;
			d.blk_pitch = c.d_pitch;
		}
		for (int ob = 0; ob < blocks; ob += nb)
		{
			float	   *ring = has_expand(mb) ? base + (c.carry ? ob / nb * c.panel_pitch : 0) : NULL;

			if (ring)
				expand_lines(ops, mb, packs[0], &c, in, ob, ring, made, need);
			for (int b = ob; b < ob + nb && b < blocks; b++)
			{
				nn_dw_job	job = nn_dw_block(dw, packs[1], b);

				for (int i = 0; i < n; i++)
					depthwise_line(ops, dw, &job, &c, in, b, ring ? ring + (b - ob) * c.blk_pitch : NULL,
								   base + c.zeros, y + i, d.data + b * d.blk_pitch + i * d.row_pitch, out->w);
			}
		}
		made = need > made ? need : made;
		if (has_project(mb))
		{
			nn_view		r;

			if (res)
				r = lines_from(res, y, n);
			nn_drive_conv(ops, &mb->project, packs[2], &d, res ? &r : NULL, &to, 0, n, NULL);
		}
		else if (nn_act_moves_zero(dw->act))
			nn_zero_lanes(&d, 0, n);
	}
}
