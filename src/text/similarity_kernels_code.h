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
flip16(f16 *x, uint32_t bits)
{
	const w16	bit = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
	w16			all = (w16) {0} + (int32_t) bits,
				set = (w16) ((all & bit) != 0);

	*x = (f16) ((w16) *x ^ (set & INT32_MIN));
}

static void
flip(float *x, int n, int round)
{
	for (int i = 0; i < n; i += 64)
	{
		uint64_t	bits = random_bits((uint64_t) round << 32 | (uint64_t) i);

		for (int j = i; j < n && j < i + 64; j += 16, bits >>= 16)
		{
			f16			v = {0};
			int			m = n - j < 16 ? n - j : 16;

			memcpy(&v, x + j, (size_t) m * sizeof(float));
			flip16(&v, (uint32_t) bits & 0xFFFF);
			memcpy(x + j, &v, (size_t) m * sizeof(float));
		}
	}
}

/* Sums and differences of elements whose numbers differ in one bit, h of them apart, within sixteen. */
#define WITHIN16(x, h, ...) \
	do { \
		const w16	upper = (w16) ((((w16) {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}) & (h)) != 0); \
		f16			other = __builtin_shufflevector(x, x, __VA_ARGS__); \
		(x) = other + (f16) ((w16) (x) ^ (upper & INT32_MIN)); \
	} while (0)

/* Walsh-Hadamard transform of p elements, a power of two, divided by the root of p. */
static void
hadamard(float *x, int p)
{
	float		norm = (float) (1 / sqrt((double) p));

	if (p < 16)
	{
		for (int h = 1; h < p; h *= 2)
			for (int i = 0; i < p; i++)
				if ((i & h) == 0)
				{
					float		a = x[i],
								b = x[i + h];

					x[i] = a + b;
					x[i + h] = a - b;
				}
		for (int i = 0; i < p; i++)
			x[i] *= norm;
		return;
	}
	for (int i = 0; i < p; i += 16)
	{
		f16			v = *(const f16u *) (x + i) * norm;

		WITHIN16(v, 1, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
		WITHIN16(v, 2, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
		WITHIN16(v, 4, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
		WITHIN16(v, 8, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
		*(f16u *) (x + i) = v;
	}
	for (int h = 16; h < p; h *= 2)
		for (int i = 0; i < p; i += 2 * h)
			for (int j = i; j < i + h; j += 16)
			{
				f16			a = *(const f16u *) (x + j),
							b = *(const f16u *) (x + j + h);

				*(f16u *) (x + j) = a + b;
				*(f16u *) (x + j + h) = a - b;
			}
}

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

/* The signs of y (zeros behind its end; shrunk by `unit` against overflow), and what the estimator
 * needs of its length.  Where there are fewer bits than elements, those with bits stand for all. */
INLINE void
encode_signs(const sim_params *p, const float *y, const float *centre, double unit, sim_signs *signs)
{
	int			n = p->n,
				bits = sim_bits(n),
				used = n < bits ? n : bits;
	v8			square[2] = {{0}},
				with_centre[2] = {{0}},
				absolute[2] = {{0}};
	double		part;
	int			i = 0;

	memset(signs->bit, 0, (size_t) bits / 8);
	for (; i < used; i += 8)
	{
		v8			v = LOAD8(y + i);
		unsigned	negative = 0;

		square[0] = square[0] + v * v;
		with_centre[0] = with_centre[0] + v * LOAD8(centre + i);
		absolute[0] = absolute[0] + (v8) ((q8) v & INT64_MAX);
#if defined(__AVX512F__)
		negative = _mm512_movepi64_mask((__m512i) v);
#else
		for (int j = 0; j < 8; j++)
			negative |= (unsigned) (((q8) v)[j] < 0) << j;
#endif
		signs->bit[i / 8] = (uint8_t) ~negative;
	}
	part = sum_lanes(square);
	for (; i < n; i += 8)
	{
		v8			v = LOAD8(y + i);

		square[1] = square[1] + v * v;
		with_centre[1] = with_centre[1] + v * LOAD8(centre + i);
	}
	signs->scale = upper_half(part > 0 ? part / sum_lanes(absolute) * n / used / unit : 0);
	signs->offset = upper_half((p->metric == SIM_L2 ? sum_lanes(square) : -sum_lanes(with_centre)) / unit / unit);
}

/* Steps of x (zeros behind its end) times factor, and the length of what they leave out, rounded up. */
INLINE void
encode_bytes(const float *x, int n, float most, double factor, sim_bytes *code)
{
	const double shifter = 6755399441055744.0;	/* 1.5 * 2^52: rounds to an integer */
	v8			square[2] = {{0}};
	double		scale,
				one;

	code->scale = (float) ((double) most * factor / 127);
	scale = (double) code->scale;
	one = scale > 0 ? 1 / scale : 0;
	for (int i = 0; i < n; i += 8)
	{
		v8			v = LOAD8(x + i) * factor,
					steps = v * one + shifter - shifter;

		/* a denormal scale may be too small by much */
		for (int j = 0; j < 8 && scale < 1e-37; j++)
			steps[j] = fmin(fmax(steps[j], -127), 127);
		v = v - steps * scale;
		square[0] = square[0] + v * v;
		*(b8u *) (code->step + i) = __builtin_convertvector(__builtin_convertvector(steps, w8), b8u);
	}
	code->error = nextafterf((float) fmin(sqrt(sum_lanes(square)) * (1 + 1e-6), 3.4e38), INFINITY);
}

/* The greatest of |x|, zeros behind its end. */
INLINE float
greatest(const float *x, int n)
{
	f16			most = {0};
	float		one = 0;

	for (int i = 0; i < n; i += 16)
	{
		f16			v = (f16) ((w16) * (const f16u *) (x + i) & INT32_MAX);
		w16			more = (w16) (v > most);

		most = (f16) (((w16) v & more) | ((w16) most & ~more));
	}
	for (int i = 0; i < 16; i++)
		one = most[i] > one ? most[i] : one;
	return one;
}

static void
encode(const sim_params *p, const float *vector, sim_signs *signs, sim_bytes *bytes)
{
	float		x[SIM_MAX_DIM + 16],
				centre[SIM_MAX_DIM + 16];
	int			n = p->n;
	size_t		size = (size_t) n * sizeof(float);
	double		factor = 1,
				unit;
	float		most;

	memcpy(x, vector, size);
	memset(x + n, 0, 16 * sizeof(float));
	memset(centre + n, 0, 16 * sizeof(float));
	if (p->centre)
		memcpy(centre, p->centre, size);
	else
		memset(centre, 0, size);
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
	for (int i = 0; i < n; i += 16)
		*(f16u *) (x + i) = *(const f16u *) (x + i) * (float) (factor * unit);
	rotate(x, n);
	for (int i = 0; i < n; i += 16)
	{
		f16			c = *(const f16u *) (centre + i) * (float) unit;

		*(f16u *) (centre + i) = c;
		*(f16u *) (x + i) = *(const f16u *) (x + i) - c;
	}
	encode_signs(p, x, centre, unit, signs);
}

/* Sums over the steps, eight at a time; q has zeros behind its end, and so has the code. */
static double
bytes_dot(const double *q, const sim_bytes *code, int n)
{
	v8			sums[2] = {{0}};

	for (int i = 0, h = 0; i < n; i += 8, h ^= 1)
	{
		v8			c = __builtin_convertvector(__builtin_convertvector(*(const b8u *) (code->step + i), w8), v8);

		sums[h] = sums[h] + *(const v8u *) (q + i) * c;
	}
	return sum_lanes(sums);
}

static double
bytes_l2_squared(const double *q, const sim_bytes *code, int n)
{
	v8			sums[2] = {{0}};
	double		scale = (double) code->scale;

	for (int i = 0, h = 0; i < n; i += 8, h ^= 1)
	{
		v8			c = __builtin_convertvector(__builtin_convertvector(*(const b8u *) (code->step + i), w8), v8),
					d = *(const v8u *) (q + i) - c * scale;

		sums[h] = sums[h] + d * d;
	}
	return sum_lanes(sums);
}
