/*
 * kernels_page_row.h
 *	  One row through W pages at once; part of kernels_impl.h.
 *
 * A page is what boost_file.h and lrn_top (learn_int.h) describe.  Its up to
 * 32 nodes are asked in whole registers, whose lanes the row's few features
 * come to by permutation; what the nodes of W pages rule out is or-ed and
 * transposed together, a page a lane.
 */
#if defined(__AVX2__)

#define FEW_FEATURES	32

#if defined(__AVX512F__)

typedef __m512i page_bits;

typedef struct few_features
{
	__m512		low,
				high;
} few_features;

INLINE few_features
few_load(const float *x, uint32_t n)
{
	uint32_t	mask = n < 32 ? ((uint32_t) 1 << n) - 1 : UINT32_MAX;

	return (few_features) {_mm512_maskz_loadu_ps((__mmask16) mask, x),
		_mm512_maskz_loadu_ps((__mmask16) (mask >> 16), x + 16)};
}

/*
 * What the nodes of a page rule out: or the lanes.  Those from n_left on send
 * missing values right, if there may be any.  Unused nodes rule out nothing,
 * whatever they are asked.
 */
INLINE page_bits
cleared_by(const float *threshold, const uint32_t *clear, const uint16_t *feature, uint32_t n_left,
		   const few_features *few, const bool missing)
{
	__m512i		out = _mm512_setzero_si512();

	LRN_UNROLL
	for (int half = 0; half < 2; half++)
	{
		__m512i		f = _mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *) (feature + 16 * half)));
		__m512		v = _mm512_permutex2var_ps(few->low, f, few->high);
		__mmask16	right = _mm512_cmp_ps_mask(v, _mm512_load_ps(threshold + 16 * half), _CMP_GT_OQ);

		if (missing)
			right |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q) &
				(__mmask16) (~(((uint64_t) 1 << n_left) - 1) >> (16 * half));
		out = _mm512_mask_or_epi32(out, right, out, _mm512_load_si512(clear + 16 * half));
	}
	return out;
}

/* Of each of W pages the lowest leaf that is left. */
INLINE void
lowest_left(const page_bits *v, uint32_t *leaf)
{
	__m512i		w[8],
				u[4],
				t[2],
				all,
				lowest;

	LRN_UNROLL
	for (int i = 0; i < 8; i++)
		w[i] = _mm512_or_si512(_mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]), _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]));
	LRN_UNROLL
	for (int i = 0; i < 4; i++)
		u[i] = _mm512_or_si512(_mm512_unpacklo_epi64(w[2 * i], w[2 * i + 1]), _mm512_unpackhi_epi64(w[2 * i], w[2 * i + 1]));
	LRN_UNROLL
	for (int i = 0; i < 2; i++)
		t[i] = _mm512_or_si512(_mm512_shuffle_i32x4(u[2 * i], u[2 * i + 1], 0x44), _mm512_shuffle_i32x4(u[2 * i], u[2 * i + 1], 0xEE));
	all = _mm512_or_si512(_mm512_shuffle_i32x4(t[0], t[1], 0x88), _mm512_shuffle_i32x4(t[0], t[1], 0xDD));
	lowest = _mm512_andnot_si512(all, _mm512_add_epi32(all, _mm512_set1_epi32(1)));
	/* The exponent of 2^n; none left: some leaf. */
	lowest = _mm512_sub_epi32(_mm512_srli_epi32(_mm512_castps_si512(_mm512_cvtepi32_ps(lowest)), 23), _mm512_set1_epi32(127));
	_mm512_store_si512(leaf, _mm512_and_si512(lowest, _mm512_set1_epi32(31)));
}

#else

typedef __m256i page_bits;

typedef struct few_features
{
	__m256		part[4];
	uint32_t	n;
} few_features;

INLINE few_features
few_load(const float *x, uint32_t n)
{
	float		all[FEW_FEATURES] __attribute__((aligned(32))) = {0};
	few_features few = {.n = n};

	memcpy(all, x, n * sizeof(float));
	for (int i = 0; i < 4; i++)
		few.part[i] = _mm256_load_ps(all + 8 * i);
	return few;
}

/* Feature f of two parts; its bit of this value tells which. */
INLINE __m256
few_of_two(const few_features *few, int part, __m256i f)
{
	return _mm256_blendv_ps(_mm256_permutevar8x32_ps(few->part[part], f), _mm256_permutevar8x32_ps(few->part[part + 1], f),
							_mm256_castsi256_ps(_mm256_slli_epi32(f, 31 - 3)));
}

INLINE page_bits
cleared_by(const float *threshold, const uint32_t *clear, const uint16_t *feature, uint32_t n_left,
		   const few_features *few, const bool missing)
{
	__m256i		out = _mm256_setzero_si256();

	LRN_UNROLL
	for (int at = 0; at < 32; at += 8)
	{
		__m256i		f = _mm256_cvtepu16_epi32(_mm_load_si128((const __m128i *) (feature + at)));
		__m256		v,
					right;

		if (few->n <= 8)
			v = _mm256_permutevar8x32_ps(few->part[0], f);
		else
			v = few_of_two(few, 0, f);
		if (few->n > 16)
			v = _mm256_blendv_ps(v, few_of_two(few, 2, f), _mm256_castsi256_ps(_mm256_slli_epi32(f, 31 - 4)));
		right = _mm256_cmp_ps(v, _mm256_load_ps(threshold + at), _CMP_GT_OQ);
		if (missing)
		{
			__m256i		node = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(at));
			__m256i		goes = _mm256_cmpgt_epi32(node, _mm256_set1_epi32((int) n_left - 1));

			right = _mm256_or_ps(right, _mm256_and_ps(_mm256_cmp_ps(v, v, _CMP_UNORD_Q), _mm256_castsi256_ps(goes)));
		}
		out = _mm256_or_si256(out, _mm256_and_si256(_mm256_castps_si256(right), _mm256_load_si256((const __m256i *) (clear + at))));
	}
	return out;
}

INLINE void
lowest_left(const page_bits *v, uint32_t *leaf)
{
	__m256i		w[4],
				u[2],
				all,
				lowest;

	LRN_UNROLL
	for (int i = 0; i < 4; i++)
		w[i] = _mm256_or_si256(_mm256_unpacklo_epi32(v[2 * i], v[2 * i + 1]), _mm256_unpackhi_epi32(v[2 * i], v[2 * i + 1]));
	LRN_UNROLL
	for (int i = 0; i < 2; i++)
		u[i] = _mm256_or_si256(_mm256_unpacklo_epi64(w[2 * i], w[2 * i + 1]), _mm256_unpackhi_epi64(w[2 * i], w[2 * i + 1]));
	all = _mm256_or_si256(_mm256_permute2x128_si256(u[0], u[1], 0x20), _mm256_permute2x128_si256(u[0], u[1], 0x31));
	lowest = _mm256_andnot_si256(all, _mm256_add_epi32(all, _mm256_set1_epi32(1)));
	lowest = _mm256_sub_epi32(_mm256_srli_epi32(_mm256_castps_si256(_mm256_cvtepi32_ps(lowest)), 23), _mm256_set1_epi32(127));
	_mm256_store_si256((__m256i *) leaf, _mm256_and_si256(lowest, _mm256_set1_epi32(31)));
}

#endif
#endif
