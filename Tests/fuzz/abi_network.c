/* Nets of any layers: every function that takes one, on layers, samples and directions from bytes. What a net has to be
 * is written here a second time, so that each one is accepted or refused as it should be.
 */
#include "calls.h"

typedef __int128 wide;

enum { MOST_LAYERS = 16, SIZES = 4 /* where a code's integers begin */ };

static const int64_t limit = (int64_t)1 << 31;

/* ---- What layers make -------------------------------------------------------------------------------------------- */

/* One sample; `height` is the length of a sequence or of tokens. */
struct value {
  int32_t kind; /* as of inputs */
  int64_t height, width, channels;
  int is_trained, is_read; /* whether parameters are behind it, and a layer after it */
};

static wide numbers_of(struct value v) { return (wide)v.height * v.width * v.channels; }

/* A layer: whether there is one, its parameters, multiplications about, and what it makes. */
struct layer {
  int holds;
  wide parameters;
  double work, padded; /* and numbers of a padded image, or of attention's scores */
  struct value y;
};

/* A window's sizes from a code; 0 where it does not fit. */
static int moves(struct value *y, const int64_t *sizes, int is_pool)
{
  if (y->kind != SWN_INPUT_IMAGE) return 0;
  for (int i = 0; i < 6; i++)
    if (sizes[i] < (i < 4) || sizes[i] >= limit) return 0;
  if (is_pool && (2 * sizes[4] > sizes[0] || 2 * sizes[5] > sizes[1] || (wide)sizes[0] * sizes[1] > 1 << 24)) return 0;
  if (sizes[0] > y->height + 2 * sizes[4] || sizes[1] > y->width + 2 * sizes[5]) return 0;
  y->height = (y->height + 2 * sizes[4] - sizes[0]) / sizes[2] + 1;
  y->width = (y->width + 2 * sizes[5] - sizes[1]) / sizes[3] + 1;
  return 1;
}

static int divides(int64_t part, int64_t whole) { return part >= 1 && whole % part == 0; }

static struct layer layer_of(const int64_t *code, double number, struct value x, struct value second)
{
  static const int sizes_of[] = {2, 9, 1, 7, 6, 0, 0, 1, 2, 1, 2, 0, 2, 0, 0};
  const int64_t *sizes = code + SIZES;
  struct layer l = {.y = x};
  const int is_image = x.kind == SWN_INPUT_IMAGE, is_sequence = x.kind == SWN_INPUT_SEQUENCE;
  const wide positions = (wide)x.height * x.width, channels = x.channels;
  const struct value vector = {SWN_INPUT_VECTOR, 1, 1, x.channels, 0, 0};
  l.work = (double)numbers_of(x);
  if (code[0] < SWN_LAYER_DENSE || code[0] > SWN_LAYER_ADD) return l;
  if ((x.kind == SWN_INPUT_TOKENS) != (code[0] == SWN_LAYER_EMBEDDING)) return l;
  for (int i = 0; i < sizes_of[code[0]]; i++)
    if (sizes[i] < 0 || sizes[i] >= limit) return l;
  const int has_epsilon = number > 0 && isfinite(number);
  switch (code[0]) {
    case SWN_LAYER_DENSE:
      l.holds = !is_image && sizes[0] >= 1;
      l.parameters = (channels + (sizes[1] != 0)) * sizes[0];
      l.work = (double)(positions * channels * sizes[0]);
      l.y.channels = sizes[0];
      break;
    case SWN_LAYER_CONVOLUTION:
      l.holds = moves(&l.y, sizes + 1, 0) && sizes[0] >= 1;
      l.holds = l.holds && divides(sizes[7], x.channels) && divides(sizes[7], sizes[0]);
      if (!l.holds) break;
      l.y.channels = sizes[0];
      l.parameters = (wide)sizes[1] * sizes[2] * (channels / sizes[7]) * sizes[0];
      l.work = (double)l.parameters * l.y.height * l.y.width;
      l.padded = (double)(x.height + 2 * sizes[5]) * (x.width + 2 * sizes[6]) * x.channels;
      if (sizes[8]) l.parameters += sizes[0];
      break;
    case SWN_LAYER_ACTIVATION: l.holds = sizes[0] <= SWN_ELU && isfinite(number); break;
    case SWN_LAYER_AVERAGE_POOL:
    case SWN_LAYER_MAX_POOL:
      l.holds = moves(&l.y, sizes, 1);
      l.work = (double)numbers_of(l.y) * sizes[0] * sizes[1];
      break;
    case SWN_LAYER_GLOBAL_AVERAGE_POOL:
      l.holds = is_image;
      l.y = vector;
      break;
    case SWN_LAYER_MEAN:
      l.holds = is_sequence;
      l.y = vector;
      break;
    case SWN_LAYER_FLATTEN:
      l.holds = 1;
      l.y = vector;
      l.y.channels = (int64_t)numbers_of(x);
      break;
    case SWN_LAYER_LAYER_NORM:
      l.holds = !is_image && has_epsilon;
      l.parameters = sizes[0] ? 2 * channels : 0;
      break;
    case SWN_LAYER_GROUP_NORM:
      l.holds = !is_sequence && divides(sizes[0], channels) && has_epsilon;
      l.parameters = sizes[1] ? 2 * channels : 0;
      break;
    case SWN_LAYER_FROZEN_BATCH_NORM: /* its statistics are looked at by who has them */
      l.holds = has_epsilon && sizes[1] == channels;
      l.parameters = sizes[0] ? 2 * channels : 0;
      break;
    case SWN_LAYER_EMBEDDING:
      l.holds = sizes[0] >= 1 && sizes[1] >= 1;
      l.parameters = (wide)sizes[0] * sizes[1];
      l.y = (struct value){SWN_INPUT_SEQUENCE, x.height, 1, sizes[1], 0, 0};
      l.work = (double)numbers_of(l.y);
      break;
    case SWN_LAYER_POSITION_EMBEDDING:
      l.holds = is_sequence;
      l.parameters = numbers_of(x);
      break;
    case SWN_LAYER_ATTENTION:
      l.holds = is_sequence && divides(sizes[0], channels);
      l.parameters = 4 * channels * (channels + (sizes[1] != 0));
      l.work = (double)(4 * positions * channels * channels + 2 * positions * positions * channels);
      l.padded = (double)(positions * positions * sizes[0]);
      break;
    case SWN_LAYER_ADD:
      l.holds = x.kind == second.kind && x.height == second.height && x.width == second.width &&
                x.channels == second.channels;
      break;
  }
  l.holds = l.holds && numbers_of(l.y) < limit;
  if (l.parameters > (wide)1 << 56) l.parameters = (wide)1 << 56;
  l.y.is_trained = l.parameters > 0 || x.is_trained || (code[0] == SWN_LAYER_ADD && second.is_trained);
  l.y.is_read = 0;
  return l;
}

/* ---- A net from bytes -------------------------------------------------------------------------------------------- */

static swn_network_shape shape;
static int64_t codes[MOST_LAYERS][SWN_CODE_LENGTH];
static double numbers[MOST_LAYERS], statistics[2048];
static struct value values[MOST_LAYERS + 1];
static int64_t next_offset;

static int input_value(struct value *x)
{
  const size_t *sizes = shape.input;
  if (shape.input_kind < SWN_INPUT_VECTOR || shape.input_kind > SWN_INPUT_TOKENS) return 0;
  static const int taken[] = {1, 3, 2, 1};
  for (int i = 0; i < taken[shape.input_kind]; i++)
    if (sizes[i] < 1 || sizes[i] >= (size_t)limit) return 0;
  const int64_t a = (int64_t)sizes[0], b = (int64_t)sizes[1], c = (int64_t)sizes[2];
  switch (shape.input_kind) {
    case SWN_INPUT_VECTOR: *x = (struct value){SWN_INPUT_VECTOR, 1, 1, a, 0, 0}; break;
    case SWN_INPUT_IMAGE: *x = (struct value){SWN_INPUT_IMAGE, b, c, a, 0, 0}; break;
    case SWN_INPUT_SEQUENCE: *x = (struct value){SWN_INPUT_SEQUENCE, a, 1, b, 0, 0}; break;
    default: *x = (struct value){SWN_INPUT_TOKENS, a, 1, 1, 0, 0};
  }
  return numbers_of(*x) < limit;
}

/* Part of a number that divides it. */
static int64_t divisor(int64_t whole)
{
  int64_t found = 1 + byte() % 4;
  return whole % found == 0 ? found : seldom(3) ? whole : 1;
}

static void window(int64_t *sizes, const struct value *x, int is_pool)
{
  for (int i = 0; i < 2; i++) {
    int64_t side = i ? x->width : x->height, kernel = 1 + byte() % 4;
    sizes[4 + i] = seldom(32) ? (int64_t)large() : byte() % 3;
    if (seldom(24)) kernel = seldom(2) ? (int64_t)large() : 2 * sizes[4 + i];
    if (is_pool && sizes[4 + i] > kernel / 2) sizes[4 + i] = kernel / 2;
    sizes[i] = kernel > side + 2 * sizes[4 + i] ? 1 : kernel;
    if (sizes[i] < 1) sizes[i] = 1;
    if (is_pool && sizes[i] == 1) sizes[4 + i] = 0;
    sizes[2 + i] = seldom(24) ? (int64_t)large() : 1 + byte() % 3 / 2;
  }
}

/* Adds a layer of this kind that fits what the one before has made. */
static void add(int64_t kind)
{
  const size_t index = shape.layers++;
  int64_t *code = codes[index], *sizes = code + SIZES;
  memset(code, 0, sizeof codes[index]);
  size_t from = index;
  if (seldom(32)) from = pick((unsigned)index + 1);
  const struct value *x = &values[from];
  numbers[index] = 0;
  if (kind >= SWN_LAYER_LAYER_NORM && kind <= SWN_LAYER_FROZEN_BATCH_NORM)
    numbers[index] = seldom(12) ? number() : 1e-5;
  if (kind == SWN_LAYER_ADD) {
    /* Of the same shape and not yet read, if there is one. */
    int best = -1;
    for (size_t i = 0; i < index; i++) {
      const struct value *v = &values[i];
      if (v->kind != x->kind || v->height != x->height || v->width != x->width || v->channels != x->channels) continue;
      if (best < 0 || (!v->is_read && v->is_trained) || byte() % 2) best = (int)i;
    }
    if (best < 0) kind = SWN_LAYER_ACTIVATION;
    else code[2] = best;
  }
  code[0] = kind;
  code[1] = (int64_t)from;
  code[3] = next_offset;
  switch (kind) {
    case SWN_LAYER_DENSE:
      sizes[0] = 1 + byte() % 6;
      sizes[1] = byte() % 2;
      break;
    case SWN_LAYER_CONVOLUTION:
      window(sizes + 1, x, 0);
      sizes[7] = divisor(x->channels);
      sizes[0] = sizes[7] * (1 + byte() % 4);
      sizes[8] = byte() % 2;
      break;
    case SWN_LAYER_ACTIVATION:
      sizes[0] = byte() % 10;
      numbers[index] = seldom(3) ? number() : (int)pick(8) / 8.0;
      break;
    case SWN_LAYER_AVERAGE_POOL: sizes[6] = byte() % 2; /* fall through */
    case SWN_LAYER_MAX_POOL: window(sizes, x, 1); break;
    case SWN_LAYER_LAYER_NORM: sizes[0] = byte() % 2; break;
    case SWN_LAYER_GROUP_NORM:
    case SWN_LAYER_ATTENTION:
      sizes[0] = divisor(x->channels);
      sizes[1] = byte() % 2;
      break;
    case SWN_LAYER_FROZEN_BATCH_NORM: {
      sizes[0] = byte() % 2;
      sizes[1] = x->channels;
      unsigned state = byte();
      if (shape.statistics_count + 2 * (size_t)x->channels > sizeof statistics / sizeof *statistics) {
        code[0] = SWN_LAYER_ACTIVATION;
        memset(sizes, 0, 2 * sizeof *sizes);
        break;
      }
      for (size_t i = 0; i < 2 * (size_t)x->channels; i++, state = state * 13 + 41)
        statistics[shape.statistics_count++] = state % 64 / 16.0;
      if (seldom(24)) statistics[shape.statistics_count - 1] = number();
      break;
    }
    case SWN_LAYER_EMBEDDING:
      sizes[0] = 1 + byte() % 9;
      sizes[1] = 1 + byte() % 8;
      break;
    default: break;
  }
  if (seldom(64)) codes[index][SIZES + pick(9)] = byte() % 12;
  const struct layer made = layer_of(code, numbers[index], *x, values[code[2]]);
  values[from].is_read = 1;
  if (code[0] == SWN_LAYER_ADD) values[code[2]].is_read = 1;
  values[index + 1] = made.holds ? made.y : *x;
  values[index + 1].is_read = 0;
  if (made.holds) next_offset += (int64_t)made.parameters;
}

static void add_any(void)
{
  static const int8_t fit[4][11] = {
      {0, 0, 2, 2, 7, 8, 9, 14, 14, 6, -1},
      {1, 1, 1, 2, 3, 4, 8, 9, 14, 14, -1},
      {0, 2, 7, 7, 9, 11, 12, 12, 14, 14, -1},
      {10, 10, 10, 10, 10, 10, 10, 10, 10, 10, -1},
  };
  const int found = fit[values[shape.layers].kind][pick(11)];
  if (found >= 0) add(found);
  else add(seldom(3) ? (int64_t)pick(15) : fit[values[shape.layers].kind][0]);
}

/* The last layers, to a vector that has parameters. */
static void finish(void)
{
  if (values[shape.layers].kind == SWN_INPUT_TOKENS) add(SWN_LAYER_EMBEDDING);
  const int32_t kind = values[shape.layers].kind;
  if (kind == SWN_INPUT_IMAGE) add(seldom(2) ? SWN_LAYER_GLOBAL_AVERAGE_POOL : SWN_LAYER_FLATTEN);
  if (kind == SWN_INPUT_SEQUENCE) add(seldom(2) ? SWN_LAYER_MEAN : SWN_LAYER_FLATTEN);
  if (next_offset == 0 || seldom(2)) add(SWN_LAYER_DENSE);
}

/* What comes over a wrong binding: any one thing is another. */
static void spoil(void)
{
  int64_t *field = &codes[pick((unsigned)shape.layers)][pick(SWN_CODE_LENGTH)];
  switch (pick(18)) {
    case 0: shape.dtype = (int32_t)word(); break;
    case 1: shape.input_kind = (int32_t)pick(4); break;
    case 2: shape.input_kind = (int32_t)word(); break;
    case 3: shape.input[pick(3)] = impossible(); break;
    case 4: shape.input[pick(3)] = large(); break;
    case 5: shape.layers = seldom(2) ? impossible() : pick((unsigned)shape.layers); break;
    case 6: shape.codes = NULL; break;
    case 7: shape.numbers = NULL; break;
    case 8: shape.statistics = NULL; break;
    case 9: /* never more than there are, but for what no array can have */
      shape.statistics_count = seldom(2) ? impossible() : pick((unsigned)shape.statistics_count + 1);
      break;
    case 10: shape.loss = (int32_t)word(); break;
    case 11: numbers[pick((unsigned)shape.layers)] = number(); break;
    case 12: *field = (int64_t)word(); break;
    case 13: *field = (int64_t)large(); break;
    case 14: *field = (int64_t)impossible(); break;
    case 15: *field = -*field - seldom(2); break;
    default: *field = byte() % 12; break;
  }
}

/* Offsets in another order, as they are where parameters are registered in one and used in another. */
static void reorder(void)
{
  const size_t first = pick((unsigned)shape.layers);
  next_offset = 0;
  for (size_t i = 0; i < shape.layers; i++) {
    const size_t index = (first + i) % shape.layers;
    const int64_t *code = codes[index];
    const struct layer l = layer_of(code, numbers[index], values[code[1]], values[code[2]]);
    codes[index][3] = l.parameters && l.holds ? next_offset : (int64_t)word();
    if (l.holds) next_offset += (int64_t)l.parameters;
  }
}

/* Whether it is one that the header describes; what it is like then. */
static int is_net(void)
{
  if (shape.dtype < 0 || shape.dtype > 1 || shape.loss < 0 || shape.loss > 3) return 0;
  if (shape.loss == SWN_HUBER && !(shape.loss_parameter > 0 && isfinite(shape.loss_parameter))) return 0;
  if (!shape.codes || !shape.numbers || shape.layers < 1 || shape.layers > MOST_LAYERS) return 0;
  if (shape.statistics_count >= (size_t)limit || !input_value(&values[0])) return 0;
  wide largest = numbers_of(values[0]), total = 0;
  double work = (double)largest;
  size_t taken = 0, ranges = 0;
  struct { int64_t from; wide to; } range[MOST_LAYERS];
  for (size_t i = 0; i < shape.layers; i++) {
    const int64_t *code = codes[i];
    const int is_add = code[0] == SWN_LAYER_ADD, is_frozen = code[0] == SWN_LAYER_FROZEN_BATCH_NORM;
    if (code[1] < 0 || code[1] > (int64_t)i || (is_add && (code[2] < 0 || code[2] > (int64_t)i))) return 0;
    const struct layer l = layer_of(code, numbers[i], values[code[1]], values[is_add ? code[2] : 0]);
    if (!l.holds) return 0;
    if (is_frozen) {
      const size_t channels = (size_t)values[code[1]].channels;
      if (!shape.statistics || shape.statistics_count - taken < 2 * channels) return 0;
      for (size_t j = 0; j < 2 * channels; j++, taken++)
        if (!isfinite(statistics[taken]) || (j >= channels && statistics[taken] < 0)) return 0;
    }
    values[code[1]].is_read = 1;
    if (is_add) values[code[2]].is_read = 1;
    values[i + 1] = l.y;
    work += l.work + (double)numbers_of(l.y);
    if (l.padded <= 1 << 28) work += l.padded / 16;
    if (numbers_of(l.y) > largest) largest = numbers_of(l.y);
    if (code[0] == SWN_LAYER_EMBEDDING && (!m.vocabulary || (size_t)code[SIZES] < m.vocabulary))
      m.vocabulary = (size_t)code[SIZES];
    total += l.parameters;
    if (l.parameters) range[ranges].from = code[3], range[ranges++].to = code[3] + l.parameters;
  }
  if (taken != shape.statistics_count || values[shape.layers].kind != SWN_INPUT_VECTOR) return 0;
  for (size_t i = 1; i < shape.layers; i++)
    if (values[i].is_trained && !values[i].is_read) return 0;
  /* Ranges of this sum in all, each from where another ends, are the whole vector. */
  if (total < 1 || total >= (wide)1 << 44) return 0;
  for (wide end = 0; end < total;) {
    size_t i = 0;
    while (i < ranges && range[i].from != end) i++;
    if (i == ranges) return 0;
    end = range[i].to;
  }
  m.inputs = (size_t)numbers_of(values[0]);
  m.outputs = (size_t)values[shape.layers].channels;
  m.count = (size_t)total;
  m.blocks = ranges;
  if (work < (double)total) work = (double)total;
  m.work = work > 1 << 28 ? 1 << 28 : (size_t)work;
  m.is_large = m.inputs > 1 << 20 || m.outputs > 1 << 20 || m.count > 1 << 20;
  m.is_unfit = largest > 1 << 28;
  m.takes_any = 1;
  return 1;
}

/* A copy that is exactly as long as it must be. */
static void *copy(const void *from, size_t bytes)
{
  void *made = malloc(bytes ? bytes : 1);
  must(made != NULL, "an array");
  return memcpy(made, from, bytes);
}

static void make_net(void)
{
  memset(&shape, 0, sizeof shape);
  next_offset = 0;
  shape.dtype = (int32_t)pick(2);
  shape.input_kind = (int32_t)pick(4);
  for (int i = 0; i < 3; i++) shape.input[i] = 1 + byte() % 8;
  if (shape.input_kind == SWN_INPUT_IMAGE) shape.input[0] = 1 + shape.input[0] % 4;
  shape.loss = (int32_t)pick(4);
  shape.loss_parameter = seldom(12) ? number() : 1;
  if (seldom(24)) {
    for (int i = 0; i < 3; i++) shape.input[i] = 1;
    shape.input[pick(3)] = large();
  }
  must(input_value(&values[0]), "an input");
  for (unsigned layers = pick(9); layers; layers--) add_any();
  finish();
  shape.codes = &codes[0][0];
  shape.numbers = numbers;
  shape.statistics = statistics;
  if (seldom(4)) reorder();
  if (seldom(5))
    for (unsigned times = 1 + pick(2); times && shape.layers - 1 < MOST_LAYERS; times--) spoil();
  const int good = is_net();
  const size_t layers = shape.layers > MOST_LAYERS ? 1 : shape.layers;
  swn_network_shape given = shape;
  if (shape.codes) given.codes = copy(codes, layers * sizeof *codes);
  if (shape.numbers) given.numbers = copy(numbers, layers * sizeof *numbers);
  if (shape.statistics) {
    const size_t most = sizeof statistics / sizeof *statistics;
    given.statistics =
        copy(statistics, (shape.statistics_count > most ? most : shape.statistics_count) * sizeof *statistics);
  }
  const swn_network_shape *place = seldom(97) ? NULL : &given;
  swn_mlp **net = seldom(97) ? NULL : &m.net;
  const swn_status status = checked(swn_network_create(place, net));
  free((void *)given.codes);
  free((void *)given.numbers);
  free((void *)given.statistics);
  must(status == (good && place && net ? SWN_OK : SWN_INVALID_ARGUMENT), "nets are made, others refused");
  must((status == SWN_OK) == (m.net != NULL), "a net, or a reason");
  m.scalar = shape.dtype == SWN_FLOAT32 ? SCALAR32 : SCALAR64;
  m.softmax = shape.loss == SWN_SOFTMAX_CROSS_ENTROPY;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { return use(data, size, make_net); }
