/*
 * similarity_kernels_code.h
 *	  Codes of a vector; part of similarity_kernels.h.
 *
 * The rotation is ROUNDS times: signs flipped at random (a hash of round and place), and a Walsh-Hadamard
 * transform of the first or, in turn, the last p elements, p the greatest power of two
 * within n.  It is orthogonal, spreads any vector over all dimensions, and takes time n log n.
 */
#define ROUNDS 4

/* 64 random bits: splitmix64's finaliser. */
INLINE uint64_t
random_bits(uint64_t x)
{
	x = (x + 1) * 0x9E3779B97F4A7C15;
	x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
	x = (x ^ x >> 27) * 0x94D049BB133111EB;
	return x ^ x >> 31;
}

/* Bit i of bits says whether element i, of sixteen, changes its sign. */
INLINE void
flip16(float *x, uint32_t bits)
{
#if defined(__AVX512DQ__)
	__m512		v = _mm512_loadu_ps(x);

	_mm512_storeu_ps(x, _mm512_mask_xor_ps(v, (__mmask16) bits, v, _mm512_set1_ps(-0.0f)));
#else
	static const int32_t bit[16] __attribute__((aligned(64))) = {
		1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768,
	};

	for (int i = 0; i < 16; i += VF)
	{
		vi			set = (vi) ((((vi) {0} + (int32_t) bits) & *(const vi *) (bit + i)) != 0);

		*(vfu *) (x + i) = (vf) ((vi) * (const vfu *) (x + i) ^ (set & INT32_MIN));
	}
#endif
}

static void
flip(float *x, int n, int round)
{
	for (int i = 0; i < n; i += 64)
	{
		uint64_t	bits = random_bits((uint64_t) round << 32 | (uint64_t) i);

		for (int j = i; j < n && j < i + 64; j += 16, bits >>= 16)
			flip16(x + j, (uint32_t) bits & 0xFFFF);
	}
}

/* Elements of a register whose numbers differ in one bit, changed for each other. */
#if VF == 16
#define EACH 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#define BY1 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14
#define BY2 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13
#define BY4 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11
#define BY8 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7
#elif VF == 8
#define EACH 0, 1, 2, 3, 4, 5, 6, 7
#define BY1 1, 0, 3, 2, 5, 4, 7, 6
#define BY2 2, 3, 0, 1, 6, 7, 4, 5
#define BY4 4, 5, 6, 7, 0, 1, 2, 3
#else
#define EACH 0, 1, 2, 3
#define BY1 1, 0, 3, 2
#define BY2 2, 3, 0, 1
#endif

/* Sums and differences of elements h apart within a register. */
#define WITHIN(x, h, ...) \
	do { \
		const vi	upper = (vi) (((vi) {EACH} & (h)) != 0) & INT32_MIN; \
		vf			other = __builtin_shufflevector(x, x, __VA_ARGS__); \
		(x) = other + (vf) ((vi) (x) ^ upper); \
	} while (0)

/* Walsh-Hadamard transform of p elements, a power of two, divided by the root of p. */
static void
hadamard(float *x, int p)
{
	float		norm = (float) (1 / sqrt((double) p));
	int			h = 1;

	if (p < VF)
		for (int i = 0; i < p; i++)
			x[i] *= norm;
	else
	{
		for (int i = 0; i < p; i += VF)
		{
			vf			v = *(const vfu *) (x + i) * norm;

			WITHIN(v, 1, BY1);
			WITHIN(v, 2, BY2);
#if VF >= 8
			WITHIN(v, 4, BY4);
#endif
#if VF >= 16
			WITHIN(v, 8, BY8);
#endif
			*(vfu *) (x + i) = v;
		}
		h = VF;
	}
	for (; h < p; h *= 2)
		for (int i = 0; i < p; i += 2 * h)
		{
			float	   *a = x + i,
					   *b = a + h;
			int			j = 0;

			for (; j + VF <= h; j += VF)
			{
				vf			u = *(const vfu *) (a + j),
							v = *(const vfu *) (b + j);

				*(vfu *) (a + j) = u + v;
				*(vfu *) (b + j) = u - v;
			}
			for (; j < h; j++)
			{
				float		u = a[j],
							v = b[j];

				a[j] = u + v;
				b[j] = u - v;
			}
		}
}

/* x in place; what is behind its end, to a multiple of 16, may change its sign. */
static void
rotate(float *x, int n)
{
	int			p = 1;

	while (2 * p <= n)
		p *= 2;
	for (int round = 0; round < ROUNDS; round++)
	{
		flip(x, n, round);
		hadamard(round % 2 ? x + n - p : x, p);
	}
}

/* The upper half of a float, rounded and kept finite. */
INLINE uint16_t
upper_half(double v)
{
	float		f = (float) fmin(fmax(v, -3e38), 3e38);
	uint32_t	bits;

	memcpy(&bits, &f, 4);
	return (uint16_t) ((bits + 0x8000) >> 16);
}

/* Add LANES elements of y, from the i-th on: squares, products with the centre, absolute values, bits of signs. */
INLINE void
sign_sums(const float *y, const float *centre, vd *square, vd *with_centre, vd *absolute, uint8_t *bit)
{
	unsigned	negative = 0;

	UNROLL
	for (int h = 0; h < PARTS; h++)
	{
		vd			v = DOUBLES(y + VD * h);

		square[h] += v * v;
		with_centre[h] += v * DOUBLES(centre + VD * h);
		absolute[h] += (vd) ((vq) v & INT64_MAX);
#if defined(__AVX512DQ__)
		negative |= (unsigned) _mm512_movepi64_mask((__m512i) v) << VD * h;
#elif defined(__AVX2__)
		negative |= (unsigned) _mm256_movemask_pd((__m256d) v) << VD * h;
#else
		for (int j = 0; j < VD; j++)
			negative |= (unsigned) (((vq) v)[j] < 0) << (VD * h + j);
#endif
	}
	bit[0] = (uint8_t) ~negative;
	bit[1] = (uint8_t) (~negative >> 8);
}

/* The signs of y (shrunk by `unit` against overflow), and what the estimator needs of its length.  Where there are
 * fewer bits than elements, those with bits stand for all.  Both arrays have zeros to a multiple of 16. */
INLINE void
encode_signs(const sim_params *p, const float *y, const float *centre, double unit, sim_signs *signs)
{
	int			n = p->n,
				bits = sim_bits(n),
				used = n < bits ? n : bits;
	vd			square[PARTS] = {{0}},
				with_centre[PARTS] = {{0}},
				absolute[PARTS] = {{0}};
	uint8_t		none[2];
	double		part,
				sum;
	int			i = 0;

	memset(signs->bit, 0, (size_t) bits / 8);
	for (; i < used; i += LANES)
		sign_sums(y + i, centre + i, square, with_centre, absolute, signs->bit + i / 8);
	part = sum_lanes(square);
	sum = sum_lanes(absolute);
	for (; i < n; i += LANES)
		sign_sums(y + i, centre + i, square, with_centre, absolute, none);
	signs->scale = upper_half(part > 0 ? part / sum * n / used / unit : 0);
	signs->offset = upper_half((p->metric == SIM_L2 ? sum_lanes(square) : -sum_lanes(with_centre)) / unit / unit);
}

/* Steps of x (zeros to a multiple of 16) times factor, and the length of what they leave out, rounded up. */
INLINE void
encode_bytes(const float *x, int n, float most, double factor, sim_bytes *code)
{
	const double shifter = 6755399441055744.0;	/* 1.5 * 2^52: rounds to an integer, in the lowest bits */
	vd			square[PARTS] = {{0}};
	double		scale,
				one;

	code->scale = (float) ((double) most * factor / 127);
	scale = (double) code->scale;
	one = scale > 0 ? 1 / scale : 0;
	for (int i = 0; i < n; i += LANES)
	{
		int8_t		step[LANES];

		UNROLL
		for (int h = 0; h < PARTS; h++)
		{
			vd			v = DOUBLES(x + i + VD * h) * factor,
						shifted = v * one + shifter;

			/* a denormal scale may be too small by much */
			for (int j = 0; j < VD && scale < 1e-37; j++)
				shifted[j] = fmin(fmax(shifted[j], shifter - 127), shifter + 127);
			v -= (shifted - shifter) * scale;
			square[h] += v * v;
#if defined(__AVX512F__)
			_mm_storel_epi64((__m128i *) (step + VD * h), _mm512_cvtepi64_epi8((__m512i) shifted));
#else
			for (int j = 0; j < VD; j++)
				step[VD * h + j] = (int8_t) ((vq) shifted)[j];
#endif
		}
		memcpy(code->step + i, step, LANES);
	}
	code->error = nextafterf((float) fmin(sqrt(sum_lanes(square)) * (1 + 1e-6), 3.4e38), INFINITY);
}

/* The greatest of |x|, zeros to a multiple of 16. */
INLINE float
greatest(const float *x, int n)
{
	vf			most = {0};
	float		one = 0;

	for (int i = 0; i < n; i += VF)
	{
		vf			v = (vf) ((vi) * (const vfu *) (x + i) & INT32_MAX);
		vi			more = (vi) (v > most);

		most = (vf) (((vi) v & more) | ((vi) most & ~more));
	}
	for (int i = 0; i < VF; i++)
		one = most[i] > one ? most[i] : one;
	return one;
}

static void
encode(const sim_params *p, const float *vector, sim_signs *signs, sim_bytes *bytes)
{
	float		x[SIM_MAX_DIM + LANES],
				centre[SIM_MAX_DIM + LANES];
	int			n = p->n;
	size_t		size = (size_t) n * sizeof(float);
	double		factor = 1,
				unit;
	float		most;

	memcpy(x, vector, size);
	memset(x + n, 0, LANES * sizeof(float));
	if (p->metric == SIM_COSINE)
	{
		double		square = dot(x, x, n);

		if (square == 0)
		{
			memset(signs, 0, sizeof(*signs));
			signs->offset = upper_half(3e38);
			memset(bytes, 0, sim_bytes_size(n));
			bytes->scale = NAN;
			return;
		}
		factor = 1 / sqrt(square);
	}
	most = greatest(x, n);
	encode_bytes(x, n, most, factor, bytes);

	unit = sim_unit(p->metric, most);
	for (int i = 0; i < n; i += VF)
		*(vfu *) (x + i) *= (float) (factor * unit);
	rotate(x, n);
	if (p->centre)
		memcpy(centre, p->centre, size);
	else
		memset(centre, 0, size);
	memset(centre + n, 0, LANES * sizeof(float));
	for (int i = 0; i < n; i += VF)
	{
		*(vfu *) (centre + i) *= (float) unit;
		*(vfu *) (x + i) -= *(const vfu *) (centre + i);
	}
	encode_signs(p, x, centre, unit, signs);
}

/* Sums over the steps, zeros behind their end and that of q. */
static double
bytes_dot(const double *q, const sim_bytes *code, int n)
{
	vd			sums[PARTS] = {{0}};

	for (int i = 0; i < n; i += LANES)
		UNROLL
		for (int h = 0; h < PARTS; h++)
			ADD_PRODUCT(sums[h], *(const vd *) (q + i + VD * h), STEPS(code->step + i + VD * h));
	return sum_lanes(sums);
}

static double
bytes_l2_squared(const double *q, const sim_bytes *code, int n)
{
	vd			sums[PARTS] = {{0}};
	double		scale = (double) code->scale;

	for (int i = 0; i < n; i += LANES)
		UNROLL
		for (int h = 0; h < PARTS; h++)
		{
			vd			d = *(const vd *) (q + i + VD * h) - STEPS(code->step + i + VD * h) * scale;

			sums[h] += d * d;
		}
	return sum_lanes(sums);
}
