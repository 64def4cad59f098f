/*
 * file.c
 *	  Opening a compiled file: nothing in it is trusted before it was checked.
 *
 * The plan's sha256 finds damage.  The structural checks behind it make sure
 * that even a forged plan names only bytes of the file, the arena and the
 * caller's inputs, with shapes that the blocked kernels and packs agree with;
 * the parameters of plain operators rest on the checksum alone.
 */
#include "nn/file.h"

#include <string.h>

#include "core/sha256.h"
#include "nn/ops_impl.h"

static const nn_file_header *
header(const nn_model *m)
{
	return m->header;
}

static mr_code
corrupt(mr_status *st, const char *why)
{
	return mr_fail(st, MR_CORRUPT, "compiled model file is not usable: %s", why);
}

/* [at, at + count * size) within [0, total)? */
static bool
inside(uint64_t at, uint64_t count, uint64_t size, uint64_t total)
{
	uint64_t	bytes;

	return !__builtin_mul_overflow(count, size, &bytes) && at <= total && bytes <= total - at;
}

/* Does the whole extent of a tensor, border included, lie where it claims? */
static bool
check_tensor(const nn_file_header *h, const nn_port *ports, const nn_ftensor *t)
{
	int64_t		elements;
	uint64_t	total,
				start,
				rows,
				last;

	if (t->shape.rank < 0 || t->shape.rank > NN_MAX_RANK || !nn_shape_elements(&t->shape, &elements) ||
		elements != t->elements || nn_dtype_size(t->dtype) == 0)
		return false;
	if (t->place == nn_place_input)
		return !t->blocked && t->offset < h->n_inputs && ports[t->offset].info.elements == elements &&
			ports[t->offset].info.dtype == t->dtype;
	if (t->place == nn_place_const)
		total = h->total_len;
	else if (t->place == nn_place_arena)
		total = h->arena;
	else
		return false;
	if (t->place == nn_place_const && t->offset < h->plan_len)
		return false;
	if (!t->blocked)
		return t->offset % nn_dtype_size(t->dtype) == 0 &&
			inside(t->offset, (uint64_t) elements, nn_dtype_size(t->dtype), total);
	if (t->blocked != 1 || t->place != nn_place_arena || t->dtype != nn_float32 || t->offset % 64 ||
		t->c < 1 || t->h < 1 || t->w < 1 || t->margin.top < 0 || t->margin.left < 0 || t->margin.bottom < 0 ||
		t->margin.right < 0 || t->row_pitch % NN_LANES || t->blk_pitch % NN_LANES ||
		t->row_pitch > UINT32_MAX || t->blk_pitch > UINT64_C(1) << 40 || (t->shape.rank != 3 && t->shape.rank != 4) ||
		t->elements != (int64_t) t->c * t->h * t->w || t->c != t->shape.dims[1] ||
		t->w != t->shape.dims[t->shape.rank - 1])
		return false;
	rows = (uint64_t) t->margin.top + (uint64_t) t->h + (uint64_t) t->margin.bottom;
	if (t->row_pitch < (uint64_t) NN_LANES * ((uint64_t) t->margin.left + (uint64_t) t->w + (uint64_t) t->margin.right) ||
		t->blk_pitch / t->row_pitch < rows)
		return false;
	start = ((uint64_t) t->margin.top * t->row_pitch + (uint64_t) t->margin.left * NN_LANES) * sizeof(float);
	if (start > t->offset)
		return false;
	last = (uint64_t) (nn_blocks(t->c) - 1) * t->blk_pitch + rows * t->row_pitch;
	return inside(t->offset - start, last, sizeof(float), total);
}

static bool
covers(const nn_margin *have, const nn_margin *need)
{
	return have->top >= need->top && have->left >= need->left && have->bottom >= need->bottom &&
		have->right >= need->right;
}

static bool
same_view(const nn_ftensor *a, const nn_ftensor *b)
{
	return a->blocked && b->blocked && a->c == b->c && a->h == b->h && a->w == b->w;
}

static bool
good_act(const nn_act *a)
{
	return (int) a->kind >= 0 && a->kind <= nn_act_last;
}

/* Windows whose last position reaches out of what the input and pads hold. */
static bool
window_fits(int kh, int sh, int dh, int pt, int in, int out)
{
	return kh >= 1 && kh <= 65536 && sh >= 1 && sh <= 65536 && dh >= 1 && dh <= 65536 && pt >= 0 && pt <= 1 << 20 &&
		in >= 1 && out >= 1 && (int64_t) (out - 1) * sh - pt < (int64_t) in + (1 << 20);
}

/* Is step s safe to run?  t: its operands' tensors, NULL where omitted. */
static bool
check_step(const nn_file_header *h, const uint8_t *file, const nn_kernels *k, const nn_fstep *s,
		   const nn_ftensor *const *t)
{
	const nn_ftensor *x = s->n_in > 0 ? t[0] : NULL;
	const nn_ftensor *y = t[s->n_in];
	const nn_conv *cv = &s->u.conv;
	nn_conv		flat;
	nn_margin	m;

	if (!good_act(&s->act))
		return false;
	if (s->kind == nn_step_plain)
	{
		if (s->op < 0 || s->op >= nn_n_ops || s->n_in < nn_ops[s->op].min_in || s->n_in > nn_ops[s->op].max_in)
			return false;
		for (int i = 0; i < s->n_in + s->n_out; i++)
			if (t[i] && t[i]->blocked)
				return false;
		for (int i = 0; i < nn_ops[s->op].min_in; i++)
			if (t[i] == NULL)
				return false;
		for (int i = s->n_in; i < s->n_in + s->n_out; i++)
			if (t[i] && t[i]->place != nn_place_arena)
				return false;
		return y != NULL;
	}
	for (int i = 0; i < s->n_in + s->n_out; i++)
		if (t[i] == NULL || t[i]->dtype != nn_float32)
			return false;
	if (s->n_out != 1 || s->n_in < 1 || s->n_in > 2 || y->place != nn_place_arena || s->macs < 0)
		return false;
	if (s->kind != nn_step_gemm && s->kind != nn_step_from_blocked && !y->blocked)
		return false;
	if (s->data_len && (s->data < h->plan_len || s->data % 64 || !inside(s->data, s->data_len, 1, h->total_len)))
		return false;
	switch (s->kind)
	{
		case nn_step_conv:
		case nn_step_conv_planar:
		case nn_step_depthwise:
			if (s->n_in != 1 + (s->residual != 0) || (s->residual && !same_view(t[1], y)) || !good_act(&cv->act) ||
				cv->cin != (x->shape.rank >= 2 ? x->shape.dims[1] : 0) || cv->cout != y->c || cv->groups < 1 ||
				cv->cin < 1 || cv->cin % cv->groups || cv->cout % cv->groups)
				return false;
			if (s->kind == nn_step_conv_planar)
			{
				if (x->blocked || x->shape.rank < 3 || x->shape.dims[0] != 1 || cv->form != nn_conv_planar || cv->groups != 1)
					return false;
			}
			else if (!x->blocked || cv->form != nn_conv_blocked)
				return false;
			{
				int			ih = x->shape.rank == 4 ? (int) x->shape.dims[2] : 1;
				int			iw = (int) x->shape.dims[x->shape.rank - 1];

				if (!window_fits(cv->kh, cv->sh, cv->dh, cv->pt, ih, y->h) ||
					!window_fits(cv->kw, cv->sw, cv->dw, cv->pl, iw, y->w))
					return false;
				m = nn_conv_margin(cv, ih, iw, y->h, y->w);
				if (s->kind != nn_step_conv_planar && !covers(&x->margin, &m))
					return false;
				if (s->kind == nn_step_depthwise)
					return cv->groups == cv->cin && cv->cin == cv->cout &&
						nn_pack_check(file + s->data, s->data_len, k->isa, nn_pack_depthwise, cv);
				return k->conv_scratch(cv, ih, iw, y->h, y->w) <= h->scratch &&
					nn_pack_check(file + s->data, s->data_len, k->isa, nn_pack_conv, cv);
			}
		case nn_step_maxpool:
		case nn_step_avgpool:
			return s->n_in == 1 && x->blocked && x->c == y->c &&
				s->u.pool.pb >= 0 && s->u.pool.pr >= 0 && s->u.pool.pb <= 1 << 20 && s->u.pool.pr <= 1 << 20 &&
				window_fits(s->u.pool.kh, s->u.pool.sh, s->u.pool.dh, s->u.pool.pt, x->h, y->h) &&
				window_fits(s->u.pool.kw, s->u.pool.sw, s->u.pool.dw, s->u.pool.pl, x->w, y->w);
		case nn_step_global_avgpool:
		case nn_step_global_maxpool:
			return s->n_in == 1 && x->blocked && x->c == y->c && y->h == 1 && y->w == 1 && y->blk_pitch == NN_LANES;
		case nn_step_binary:
			return s->n_in == 2 && s->op >= 0 && s->op <= nn_max && same_view(x, y) &&
				t[1]->blocked && t[1]->c == y->c && (same_view(t[1], y) || (t[1]->h == 1 && t[1]->w == 1));
		case nn_step_scale_shift:
			return s->n_in == 1 && same_view(x, y) &&
				(s->data_len == 0 || s->data_len == 2 * (uint64_t) nn_blocks(y->c) * NN_LANES * sizeof(float));
		case nn_step_gemm:
			memset(&flat, 0, sizeof(flat));
			flat.cin = s->u.gemm.k;
			flat.cout = s->u.gemm.n;
			flat.groups = flat.kh = flat.kw = 1;
			return s->n_in == 1 && !x->blocked && !y->blocked && s->u.gemm.m >= 1 && s->u.gemm.k >= 1 && s->u.gemm.n >= 1 &&
				x->elements == (int64_t) s->u.gemm.m * s->u.gemm.k && y->elements == (int64_t) s->u.gemm.m * s->u.gemm.n &&
				k->gemm_scratch(s->u.gemm.m, s->u.gemm.k, s->u.gemm.n) <= h->scratch &&
				nn_pack_check(file + s->data, s->data_len, k->isa, nn_pack_gemm, &flat);
		case nn_step_to_blocked:
			return s->n_in == 1 && !x->blocked && x->elements == y->elements;
		case nn_step_from_blocked:
			return s->n_in == 1 && x->blocked && !y->blocked && x->elements == y->elements;
		case nn_step_copy_channels:
			return s->n_in == 1 && x->blocked && x->h == y->h && x->w == y->w && s->u.move.n == x->c &&
				s->u.move.to >= 0 && s->u.move.to <= y->c - s->u.move.n;
		case nn_step_shortcut:
			return s->n_in == 1 && x->blocked && s->u.move.n == x->c && s->u.move.to >= 0 &&
				s->u.move.to <= y->c - s->u.move.n && s->u.move.sy >= 1 && s->u.move.sx >= 1 &&
				s->u.move.y0 >= 0 && s->u.move.x0 >= 0 &&
				s->u.move.y0 + (int64_t) (y->h - 1) * s->u.move.sy < x->h &&
				s->u.move.x0 + (int64_t) (y->w - 1) * s->u.move.sx < x->w;
	}
	return false;
}

mr_code
nn_open(const void *file, size_t len, nn_model *model, mr_status *st)
{
	const nn_file_header *h = file;
	nn_file_header head;
	const nn_ftensor *tensors;
	const int32_t *operands;
	const nn_fstep *steps;
	const nn_port *ports;
	const nn_kernels *k;
	mr_sha256	sha;
	uint8_t		digest[32];

	memset(model, 0, sizeof(*model));
	if (file == NULL || (uintptr_t) file % 64)
		return mr_fail(st, MR_INTERNAL, "compiled model is not aligned");
	if (len < sizeof(*h))
		return corrupt(st, "too short");
	if (h->magic != NN_FILE_MAGIC)
		return corrupt(st, "bad magic");
	if (h->version != NN_COMPILER_VERSION || h->layout != NN_FILE_LAYOUT || h->ops != nn_ops_fingerprint())
		return corrupt(st, "written by another version");
	if (h->total_len != len || h->plan_len > len || h->plan_len < sizeof(*h) || h->plan_len % 64)
		return corrupt(st, "wrong length");
	head = *h;
	memset(head.plan_sha, 0, sizeof(head.plan_sha));
	mr_sha256_init(&sha);
	mr_sha256_add(&sha, &head, sizeof(head));
	mr_sha256_add(&sha, (const uint8_t *) file + sizeof(head), h->plan_len - sizeof(head));
	mr_sha256_end(&sha, digest);
	if (memcmp(digest, h->plan_sha, sizeof(digest)) != 0)
		return corrupt(st, "the plan's checksum does not match");
	if (h->isa == nn_isa_auto || h->isa > nn_isa_avx512 || (k = nn_kernels_for((nn_isa) h->isa)) == NULL)
		return corrupt(st, "made for an instruction set that this CPU lacks");
	if (h->n_inputs > NN_MAX_PORTS || h->n_outputs > NN_MAX_PORTS || h->max_operands > UINT32_MAX / 2 ||
		h->tensors % 64 || h->operands % 64 || h->steps % 64 || h->ports % 64 ||
		!inside(h->tensors, h->n_tensors, sizeof(nn_ftensor), h->plan_len) ||
		!inside(h->operands, h->n_operands, sizeof(int32_t), h->plan_len) ||
		!inside(h->steps, h->n_steps, sizeof(nn_fstep), h->plan_len) ||
		!inside(h->ports, (uint64_t) h->n_inputs + h->n_outputs, sizeof(nn_port), h->plan_len) ||
		h->arena % 64 || h->scratch % 64 || h->arena > SIZE_MAX / 4 || h->scratch > SIZE_MAX / 4 ||
		h->workspace < h->arena + h->scratch + h->max_operands * sizeof(nn_tensor) || h->workspace > SIZE_MAX / 2)
		return corrupt(st, "impossible offsets");
	tensors = (const void *) ((const uint8_t *) file + h->tensors);
	operands = (const void *) ((const uint8_t *) file + h->operands);
	steps = (const void *) ((const uint8_t *) file + h->steps);
	ports = (const void *) ((const uint8_t *) file + h->ports);
	for (uint32_t i = 0; i < h->n_inputs + h->n_outputs; i++)
	{
		const nn_tensor_info *info = &ports[i].info;

		if (memchr(info->name, 0, NN_NAME_SIZE) == NULL || info->rank < 0 || info->rank > NN_MAX_RANK ||
			info->elements < 0 || info->elements > NN_MAX_ELEMENTS || nn_dtype_size(info->dtype) == 0)
			return corrupt(st, "bad input or output");
	}
	for (uint32_t i = 0; i < h->n_tensors; i++)
		if (!check_tensor(h, ports, &tensors[i]))
			return corrupt(st, "bad tensor");
	for (uint32_t i = h->n_inputs; i < h->n_inputs + h->n_outputs; i++)
	{
		const nn_ftensor *t;

		if (ports[i].tensor < 0 || (uint32_t) ports[i].tensor >= h->n_tensors)
			return corrupt(st, "bad output");
		t = &tensors[ports[i].tensor];
		if (t->blocked || t->elements != ports[i].info.elements || t->dtype != ports[i].info.dtype)
			return corrupt(st, "bad output");
	}
	for (uint32_t i = 0; i < h->n_steps; i++)
	{
		const nn_fstep *s = &steps[i];
		const nn_ftensor *few[4];
		uint64_t	n = (uint64_t) (uint32_t) s->n_in + (uint32_t) s->n_out;

		if (s->kind < 0 || s->kind > nn_step_last || s->n_in < 0 || s->n_out < 1 || n > h->max_operands ||
			s->operands > h->n_operands || n > h->n_operands - s->operands || (s->kind != nn_step_plain && n > 4))
			return corrupt(st, "bad step");
		for (uint64_t j = 0; j < n; j++)
		{
			int32_t		t = operands[s->operands + j];

			if (t < -1 || (t >= 0 && (uint32_t) t >= h->n_tensors))
				return corrupt(st, "bad operand");
			if (n <= 4)
				few[j] = t < 0 ? NULL : &tensors[t];
		}
		if (n <= 4)
		{
			if (!check_step(h, file, k, s, few))
				return corrupt(st, "bad step");
			continue;
		}
		/* plain with many operands */
		if (s->op < 0 || s->op >= nn_n_ops || s->n_in < nn_ops[s->op].min_in || s->n_in > nn_ops[s->op].max_in)
			return corrupt(st, "bad step");
		for (uint64_t j = 0; j < n; j++)
		{
			int32_t		t = operands[s->operands + j];

			if ((t >= 0 && tensors[t].blocked) || (t < 0 && j < (uint64_t) nn_ops[s->op].min_in) ||
				(j >= (uint64_t) s->n_in && t >= 0 && tensors[t].place != nn_place_arena))
				return corrupt(st, "bad step");
		}
	}
	model->header = h;
	model->bytes = file;
	model->kernels = k;
	return MR_OK;
}

mr_code
nn_verify(const void *file, size_t len, mr_status *st)
{
	nn_model	m;
	uint8_t		digest[32];

	NN_TRY(nn_open(file, len, &m, st));
	mr_sha256_of(m.bytes + m.header->plan_len, len - m.header->plan_len, digest);
	if (memcmp(digest, m.header->content_sha, sizeof(digest)) != 0)
		return corrupt(st, "the weights' checksum does not match");
	return MR_OK;
}

/* ---- what a model has ---- */

static const nn_port *
port(const nn_model *m, int i)
{
	return (const nn_port *) (const void *) (m->bytes + header(m)->ports) + i;
}

size_t
nn_workspace(const nn_model *m)
{
	return header(m)->workspace;
}

int
nn_n_inputs(const nn_model *m)
{
	return (int) header(m)->n_inputs;
}

int
nn_n_outputs(const nn_model *m)
{
	return (int) header(m)->n_outputs;
}

const nn_tensor_info *
nn_input(const nn_model *m, int i)
{
	return &port(m, i)->info;
}

const nn_tensor_info *
nn_output(const nn_model *m, int i)
{
	return &port(m, nn_n_inputs(m) + i)->info;
}

int
nn_find_output(const nn_model *m, const char *name)
{
	for (int i = 0; i < nn_n_outputs(m); i++)
		if (strcmp(nn_output(m, i)->name, name) == 0)
			return i;
	return -1;
}

int
nn_find_input(const nn_model *m, const char *name)
{
	for (int i = 0; i < nn_n_inputs(m); i++)
		if (strcmp(nn_input(m, i)->name, name) == 0)
			return i;
	return -1;
}

nn_isa
nn_model_isa(const nn_model *m)
{
	return (nn_isa) header(m)->isa;
}
