/*
 * similarity_kernels_scan.h
 *	  Estimates of a block of 32 vectors; part of similarity_kernels.h.
 *
 * For each 4 bits of a code a table says what they add to the sum (vpshufb: 16 entries, as many
 * vectors as the register has bytes).  Entries are at most 31, so that the 16 of 8 bytes of code,
 * in two registers or one, add up in bytes (8 each) before they are widened.  Bytes of the even vectors
 * and of the odd ones are widened apart: sums, offsets and scales all lie in that order.
 */

/* Sums of a block: of even vectors, then of odd ones. */
INLINE void
block_sums(const uint8_t *table, const uint8_t *block, int bits, uint16_t *sum)
{
#if defined(__AVX512BW__)
	const __m512i four = _mm512_set1_epi8(15),
				low = _mm512_set1_epi16(255);
	__m512i		even = _mm512_setzero_si512(),
				odd = even;

	for (int i = 0; i < bits; i += 64)
	{
		__m512i		s = _mm512_setzero_si512();

		for (int j = 0; j < 4; j++, block += 64, table += 128)
		{
			__m512i		code = _mm512_loadu_si512(block),
						a = _mm512_and_si512(code, four),
						b = _mm512_and_si512(_mm512_srli_epi16(code, 4), four);

			a = _mm512_shuffle_epi8(_mm512_loadu_si512(table), a);
			b = _mm512_shuffle_epi8(_mm512_loadu_si512(table + 64), b);
			s = _mm512_add_epi8(s, _mm512_add_epi8(a, b));
		}
		even = _mm512_add_epi16(even, _mm512_and_si512(s, low));
		odd = _mm512_add_epi16(odd, _mm512_srli_epi16(s, 8));
	}
	_mm256_storeu_si256((__m256i *) sum, _mm256_add_epi16(_mm512_castsi512_si256(even), _mm512_extracti64x4_epi64(even, 1)));
	_mm256_storeu_si256((__m256i *) (sum + 16), _mm256_add_epi16(_mm512_castsi512_si256(odd), _mm512_extracti64x4_epi64(odd, 1)));
#elif defined(__AVX2__)
	const __m256i four = _mm256_set1_epi8(15),
				low = _mm256_set1_epi16(255);
	__m256i		even = _mm256_setzero_si256(),
				odd = even;

	for (int i = 0; i < bits; i += 32)
	{
		__m256i		s = _mm256_setzero_si256();

		for (int j = 0; j < 4; j++, block += 32)
		{
			const uint8_t *t = table + j / 2 * 128 + j % 2 * 32;
			__m256i		code = _mm256_loadu_si256((const __m256i *) block),
						a = _mm256_and_si256(code, four),
						b = _mm256_and_si256(_mm256_srli_epi16(code, 4), four);

			a = _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *) t), a);
			b = _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *) (t + 64)), b);
			s = _mm256_add_epi8(s, _mm256_add_epi8(a, b));
		}
		table += 256;
		even = _mm256_add_epi16(even, _mm256_and_si256(s, low));
		odd = _mm256_add_epi16(odd, _mm256_srli_epi16(s, 8));
	}
	_mm256_storeu_si256((__m256i *) sum, even);
	_mm256_storeu_si256((__m256i *) (sum + 16), odd);
#else
	uint16_t	total[SIM_BLOCK] = {0};

	for (int b = 0; b < bits / 8; b++, block += SIM_BLOCK)
	{
		const uint8_t *low = table + sim_table_at(2 * b),
				   *high = table + sim_table_at(2 * b + 1);

		for (int i = 0; i < SIM_BLOCK; i++)
			total[i] = (uint16_t) (total[i] + low[block[i] & 15] + high[block[i] >> 4]);
	}
	for (int i = 0; i < SIM_BLOCK; i++)
		sum[sim_place(i)] = total[i];
#endif
}

/* Estimates of sixteen vectors; returns a bit for each that is at least `least` and below most. */
INLINE unsigned
estimates(const sim_query *q, const uint16_t *sum, const uint16_t *offset, const uint16_t *scale, float least, float most, float *out)
{
#if defined(__AVX512BW__)
	__m512		s = _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *) sum))),
				o = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *) offset)), 16)),
				k = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *) scale)), 16)),
				e;

	s = _mm512_add_ps(_mm512_mul_ps(s, _mm512_set1_ps(q->of_sum)), _mm512_set1_ps(q->constant));
	e = _mm512_sub_ps(_mm512_mul_ps(o, _mm512_set1_ps(q->of_offset)), _mm512_mul_ps(k, s));
	_mm512_storeu_ps(out, e);
	return _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(e, _mm512_set1_ps(most), _CMP_LT_OQ), e, _mm512_set1_ps(least), _CMP_GE_OQ);
#elif defined(__AVX2__)
	unsigned	found = 0;

	for (int i = 0; i < 16; i += 8)
	{
#define WIDE(p) _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *) ((p) + i)))
		__m256		s = _mm256_cvtepi32_ps(WIDE(sum)),
					o = _mm256_castsi256_ps(_mm256_slli_epi32(WIDE(offset), 16)),
					k = _mm256_castsi256_ps(_mm256_slli_epi32(WIDE(scale), 16)),
					e;
#undef WIDE

		s = _mm256_add_ps(_mm256_mul_ps(s, _mm256_set1_ps(q->of_sum)), _mm256_set1_ps(q->constant));
		e = _mm256_sub_ps(_mm256_mul_ps(o, _mm256_set1_ps(q->of_offset)), _mm256_mul_ps(k, s));
		_mm256_storeu_ps(out + i, e);
		found |= (unsigned) _mm256_movemask_ps(_mm256_and_ps(_mm256_cmp_ps(e, _mm256_set1_ps(most), _CMP_LT_OQ),
															 _mm256_cmp_ps(e, _mm256_set1_ps(least), _CMP_GE_OQ))) << i;
	}
	return found;
#else
	unsigned	found = 0;

	for (int i = 0; i < 16; i++)
	{
		uint32_t	bits[2] = {(uint32_t) offset[i] << 16, (uint32_t) scale[i] << 16};
		float		number[2];

		memcpy(number, bits, sizeof(bits));
		out[i] = number[0] * q->of_offset - number[1] * ((float) sum[i] * q->of_sum + q->constant);
		found |= (unsigned) (out[i] < most && out[i] >= least) << i;
	}
	return found;
#endif
}

static size_t
scan(const sim_query *q, const uint8_t *blocks, size_t stride, int n_blocks, uint32_t first,
	 sim_candidate least, float most, sim_candidate *out)
{
	size_t		n = 0;

	for (int b = 0; b < n_blocks; b++, blocks += stride, first += SIM_BLOCK)
	{
		const uint16_t *offset = (const uint16_t *) (blocks + (size_t) q->bits / 8 * SIM_BLOCK);
		uint16_t	sum[SIM_BLOCK];
		float		estimate[16];

		block_sums(q->table, blocks, q->bits, sum);
		for (int odd = 0; odd < 2; odd++)
		{
			unsigned	found = estimates(q, sum + odd * 16, offset + odd * 16, offset + SIM_BLOCK + odd * 16,
										  least.estimate, most, estimate);

			for (; found; found &= found - 1)
			{
				int			i = __builtin_ctz(found);
				sim_candidate c = {estimate[i], first + 2 * (uint32_t) i + (uint32_t) odd};

				if (c.estimate > least.estimate || c.number > least.number)
					out[n++] = c;
			}
		}
	}
	return n;
}
