/*
 * file.c
 *	  Opening a compiled file: nothing in it is trusted before it was checked.
 *
 * The sha256 of header and plan find damage.  The structural checks behind it make sure
 * that even a forged plan names only bytes of the file, the arena and the
 * caller's inputs, with shapes that the blocked kernels and packs agree with;
 * the parameters of plain operators rest on the checksum alone.
 */
#include "nn/steps.h"

#include <math.h>
#include <string.h>

#include "core/sha256.h"

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
check_tensor(const nn_file_header *file, const nn_fplan *h, const nn_port *ports, const nn_ftensor *t)
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
		total = file->total_len;
	else if (t->place == nn_place_arena)
		total = h->arena;
	else
		return false;
	if (t->place == nn_place_const && t->offset < file->content)
		return false;
	if (!t->blocked)
		return t->offset % nn_dtype_size(t->dtype) == 0 &&
			inside(t->offset, (uint64_t) elements, nn_dtype_size(t->dtype), total);
	if (t->blocked != 1 || t->place != nn_place_arena || t->offset % 64 ||
		(t->dtype != nn_float32 && t->dtype != nn_bfloat16 && (t->dtype != nn_uint8 || !nn_good_quant(t->scale, t->zero))) ||
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
	last = (uint64_t) (nn_elem_blocks(nn_ftensor_elem(t), t->c) - 1) * t->blk_pitch + rows * t->row_pitch;
	return inside(t->offset - start, last, sizeof(float), total);
}

bool
nn_same_view(const nn_ftensor *a, const nn_ftensor *b)
{
	return a->blocked && b->blocked && a->c == b->c && a->h == b->h && a->w == b->w;
}

bool
nn_good_act(const nn_act *a)
{
	return (int) a->kind >= 0 && a->kind <= nn_act_last;
}

bool
nn_window_fits(int kernel, int stride, int dilation, int pad, int in, int out)
{
	return kernel >= 1 && kernel <= 65536 && stride >= 1 && stride <= 65536 && dilation >= 1 && dilation <= 65536 &&
		pad >= 0 && pad <= 1 << 20 && in >= 1 && out >= 1 &&
		(int64_t) (out - 1) * stride - pad < (int64_t) in + (1 << 20);
}

bool
nn_good_flag(const bool *flag)
{
	uint8_t		byte;

	memcpy(&byte, flag, 1);
	return byte <= 1;
}

bool
nn_good_quant(float scale, int zero)
{
	return isfinite(scale) && scale > 0 && zero >= 0 && zero <= 255;
}

/* An operand that a kind of step can have. */
static bool
check_operand(const nn_fstep *s, const nn_ftensor *t)
{
	if (t == NULL || t->dtype == nn_float32)
		return t != NULL;
	return s->kind >= nn_step_low_conv && s->kind <= nn_step_low_resize &&
		(t->dtype == nn_bfloat16 || (t->dtype == nn_uint8 && nn_good_quant(t->scale, t->zero)));
}

/* What all steps must hold to, then the kind's own check. */
static bool
check_step(const nn_file_header *file, const nn_step_check *c)
{
	const nn_fstep *s = c->s;
	const nn_step_type *type = &nn_step_types[s->kind];
	const nn_ftensor *y = c->t[s->n_in];

	if (!nn_good_act(&s->act) || s->macs < 0 || memchr(s->label, 0, sizeof(s->label)) == NULL)
		return false;
	if (s->data_len ? s->data < file->content || s->data % 64 || !inside(s->data, s->data_len, 1, file->total_len) :
		s->data != 0)
		return false;
	if (type->max_in > 0)
	{
		if (s->n_out != 1 || s->n_in < 1 || s->n_in > type->max_in)
			return false;
		for (int i = 0; i < s->n_in + 1; i++)
			if (!check_operand(s, c->t[i]))
				return false;
		if (y->place != nn_place_arena || !y->blocked != !type->blocked)
			return false;
	}
	if (s->folds && (s->folds != 1 || !nn_step_can_fold(s, c->t)))
		return false;
	return type->check(c);
}

static bool
check_port(const nn_file_header *file, const nn_port *port, bool input)
{
	const nn_tensor_info *info = &port->info;
	nn_shape	s = {info->rank, {0}};
	int64_t		elements;

	if (memchr(info->name, 0, NN_NAME_SIZE) == NULL || info->rank < 0 || info->rank > NN_MAX_RANK ||
		nn_dtype_size(info->dtype) == 0)
		return false;
	/* the batch counts as one */
	for (int i = 0; i < s.rank; i++)
		s.dims[i] = i == 0 && info->dims[0] == -1 ? 1 : info->dims[i];
	if (!nn_shape_elements(&s, &elements) || elements != info->elements)
		return false;
	for (int i = 0; i < info->rank; i++)
		if (info->dynamic[i] > (input ? 0 : NN_MAX_SLOTS))
			return false;
	return !input || !port->bound ||
		(port->value >= file->content && port->value % 64 == 0 &&
		 inside(port->value, (uint64_t) elements, nn_dtype_size(info->dtype), file->total_len));
}

/* The header, the plans' heads and where each plan lies. */
static mr_code
check_header(const void *file, size_t len, const nn_kernels **k, mr_status *st)
{
	const nn_file_header *h = file;
	const nn_fplan *plans;
	nn_file_header head;
	uint64_t	heads;
	mr_sha256	sha;
	uint8_t		digest[32];

	if (file == NULL || (uintptr_t) file % 64)
		return mr_fail(st, MR_INTERNAL, "compiled model is not aligned");
	if (len < NN_FILE_PLANS)
		return corrupt(st, "too short");
	if (h->magic != NN_FILE_MAGIC)
		return corrupt(st, "bad magic");
	if (h->version != NN_COMPILER_VERSION || h->layout != NN_FILE_LAYOUT || h->ops != nn_ops_fingerprint())
		return corrupt(st, "written by another version");
	if (h->total_len != len || h->content > len || h->content % 64 || h->n_plans < 1 || h->n_plans > NN_MAX_CLASSES ||
		!inside(NN_FILE_PLANS, h->n_plans, sizeof(nn_fplan), h->content))
		return corrupt(st, "wrong length");
	heads = nn_file_heads(h->n_plans);	/* <= content, both being multiples of 64 */
	head = *h;
	memset(head.head_sha, 0, sizeof(head.head_sha));
	mr_sha256_init(&sha);
	mr_sha256_add(&sha, &head, sizeof(head));
	mr_sha256_add(&sha, (const uint8_t *) file + sizeof(head), heads - sizeof(head));
	mr_sha256_end(&sha, digest);
	if (memcmp(digest, h->head_sha, sizeof(digest)) != 0)
		return corrupt(st, "the header's checksum does not match");
	if (h->isa == nn_isa_auto || h->isa > nn_isa_last || (*k = nn_kernels_for((nn_isa) h->isa)) == NULL)
		return corrupt(st, "made for an instruction set that this CPU lacks");
	plans = nn_file_plans(file);
	for (uint32_t i = 0; i < h->n_plans; i++)
	{
		const nn_fplan *p = &plans[i];
		uint64_t	end = p->at + p->len;

		if (p->at < heads || p->at % 64 || !inside(p->at, p->len, 1, h->content) ||
			p->n_inputs > NN_MAX_PORTS || p->n_outputs > NN_MAX_PORTS || p->max_operands > NN_MAX_OPERANDS ||
			p->tensors < p->at || p->operands < p->at || p->steps < p->at || p->ports < p->at ||
			p->tensors % 64 || p->operands % 64 || p->steps % 64 || p->ports % 64 ||
			!inside(p->tensors, p->n_tensors, sizeof(nn_ftensor), end) ||
			!inside(p->operands, p->n_operands, sizeof(int32_t), end) ||
			!inside(p->steps, p->n_steps, sizeof(nn_fstep), end) ||
			!inside(p->ports, (uint64_t) p->n_inputs + p->n_outputs, sizeof(nn_port), end) ||
			p->arena % 64 || p->scratch % 64 || p->group < 1 || p->group > NN_MAX_GROUP ||
			p->arena > SIZE_MAX / 4 / NN_MAX_GROUP || p->scratch > SIZE_MAX / 4 ||
			p->workspace < p->arena * p->group + p->scratch + p->max_operands * sizeof(nn_tensor) || p->workspace > SIZE_MAX / 2)
			return corrupt(st, "impossible offsets");
	}
	return MR_OK;
}

/* One plan, whose place check_header() has found good. */
static mr_code
check_plan(const nn_file_header *file, const nn_fplan *h, const nn_kernels *k, const nn_low_kernels *const *low,
		   mr_status *st)
{
	const uint8_t *bytes = (const uint8_t *) file;
	const nn_ftensor *tensors = (const void *) (bytes + h->tensors);
	const int32_t *operands = (const void *) (bytes + h->operands);
	const nn_fstep *steps = (const void *) (bytes + h->steps);
	const nn_port *ports = (const void *) (bytes + h->ports);
	uint8_t		digest[32];

	mr_sha256_of(bytes + h->at, h->len, digest);
	if (memcmp(digest, h->sha, sizeof(digest)) != 0)
		return corrupt(st, "the plan's checksum does not match");
	for (uint32_t i = 0; i < h->n_inputs + h->n_outputs; i++)
		if (!check_port(file, &ports[i], i < h->n_inputs))
			return corrupt(st, "bad input or output");
	for (uint32_t i = 0; i < h->n_tensors; i++)
		if (!check_tensor(file, h, ports, &tensors[i]))
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
		const nn_ftensor *t[NN_MAX_OPERANDS];
		nn_step_check c = {h, bytes, k, s, t, low};
		uint64_t	n = (uint64_t) (uint32_t) s->n_in + (uint32_t) s->n_out;

		if (s->kind < 0 || s->kind > nn_step_last || s->n_in < 0 || s->n_out < 1 || n > h->max_operands ||
			s->operands > h->n_operands || n > h->n_operands - s->operands)
			return corrupt(st, "bad step");
		for (uint64_t j = 0; j < n; j++)
		{
			int32_t		o = operands[s->operands + j];

			if (o < -1 || (o >= 0 && (uint32_t) o >= h->n_tensors))
				return corrupt(st, "bad operand");
			t[j] = o < 0 ? NULL : &tensors[o];
		}
		if (!check_step(file, &c))
			return corrupt(st, "bad step");
	}
	return MR_OK;
}

mr_code
nn_open_plan(const void *file, size_t len, int plan, nn_model *model, mr_status *st)
{
	const nn_kernels *k;
	const nn_low_kernels *low[3];

	memset(model, 0, sizeof(*model));
	NN_TRY(check_header(file, len, &k, st));
	if (plan < 0 || (uint32_t) plan >= ((const nn_file_header *) file)->n_plans)
		return mr_fail(st, MR_INVALID, "the compiled model has no class %d", plan);
	for (nn_low_kind kind = nn_low_u8; kind <= nn_low_w16; kind++)
		low[kind] = nn_low_for((nn_isa) ((const nn_file_header *) file)->isa, kind);
	NN_TRY(check_plan(file, nn_file_plans(file) + plan, k, low, st));
	model->header = file;
	model->plan = nn_file_plans(file) + plan;
	model->bytes = file;
	model->kernels = k;
	memcpy(model->low, low, sizeof(low));
	return MR_OK;
}

mr_code
nn_open(const void *file, size_t len, nn_model *model, mr_status *st)
{
	return nn_open_plan(file, len, 0, model, st);
}

/* Is a plan for these shapes (and values)?  Its ports are only compared here. */
static bool
plan_fits(const uint8_t *file, const nn_fplan *h, int n, const nn_shape *shapes, const void *const *values)
{
	const nn_port *ports = (const void *) (file + h->ports);
	int64_t		batch = -1;

	if ((uint32_t) n != h->n_inputs)
		return false;
	for (int i = 0; i < n; i++)
	{
		const nn_tensor_info *info = &ports[i].info;

		if (shapes[i].rank >= 0 && shapes[i].rank != info->rank)
			return false;
		for (int k = 0; k < shapes[i].rank; k++)
		{
			int64_t		have = shapes[i].dims[k];

			if (have == -1)
				continue;		/* any */
			if (k > 0 || info->dims[0] != -1)
			{
				if (have != info->dims[k])
					return false;
			}
			else if (batch < 0)
				batch = have;
			else if (have != batch)
				return false;
		}
		if (ports[i].bound && values && values[i] &&
			(!check_port((const void *) file, &ports[i], true) ||
			 memcmp(values[i], file + ports[i].value, (size_t) info->elements * nn_dtype_size(info->dtype)) != 0))
			return false;
	}
	return true;
}

mr_code
nn_open_class(const void *file, size_t len, int n_inputs, const nn_shape *shapes, const void *const *values,
			  nn_model *model, mr_status *st)
{
	const nn_kernels *k;

	memset(model, 0, sizeof(*model));
	NN_TRY(check_header(file, len, &k, st));
	for (uint32_t i = 0; i < ((const nn_file_header *) file)->n_plans; i++)
		if (plan_fits(file, nn_file_plans(file) + i, n_inputs, shapes, values))
			return nn_open_plan(file, len, (int) i, model, st);
	return mr_fail(st, MR_INVALID, "the compiled model has no class for inputs of these shapes");
}

mr_code
nn_verify(const void *file, size_t len, mr_status *st)
{
	const nn_file_header *h = file;
	nn_model	m;
	uint8_t		digest[32];

	NN_TRY(nn_open(file, len, &m, st));
	for (int i = 1; i < nn_n_plans(&m); i++)
		NN_TRY(nn_open_plan(file, len, i, &m, st));
	mr_sha256_of((const uint8_t *) file + h->content, len - h->content, digest);
	if (memcmp(digest, h->content_sha, sizeof(digest)) != 0)
		return corrupt(st, "the weights' checksum does not match");
	return MR_OK;
}

/* ---- what a model has ---- */

static const nn_port *
port(const nn_model *m, int i)
{
	return (const nn_port *) (const void *) (m->bytes + m->plan->ports) + i;
}

size_t
nn_workspace(const nn_model *m)
{
	return m->plan->workspace;
}

int
nn_n_plans(const nn_model *m)
{
	return (int) m->header->n_plans;
}

bool
nn_input_bound(const nn_model *m, int i)
{
	return port(m, i)->bound != 0;
}

int
nn_n_inputs(const nn_model *m)
{
	return (int) m->plan->n_inputs;
}

int
nn_n_outputs(const nn_model *m)
{
	return (int) m->plan->n_outputs;
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
	return (nn_isa) m->header->isa;
}
