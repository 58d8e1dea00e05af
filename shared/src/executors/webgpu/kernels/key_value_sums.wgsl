// First half of linear attention: sums over all tokens of phi(k) ⊗ (v, 1) for each photo and head, a matrix of `size` rows
// and `size + 1` columns. The last column is the sum of phi(k), for the normaliser. phi = elu + 1.
//
// A workgroup computes a tile of 32 × 32 of one matrix, an invocation 4 × 4 of it. Each block of 32 tokens is summed first and
// then added to the total, so that rounding grows with the number of blocks, not of tokens.

struct Params {
    tokens: u32,
    heads: u32,
    // Channels of a head.
    size: u32,
    // Floats in a row of qkv.
    pitch: u32,
    // vec4s in a row of the sums.
    columns4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> sums: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> qkv: array<f32>;

const BLOCK = 32u;

var<workgroup> keys: array<vec4<f32>, 256>;
var<workgroup> values: array<vec4<f32>, 256>;

fn phi(x: vec4<f32>) -> vec4<f32> {
    return select(exp(x), x + 1.0, x > vec4(0.0));
}

@compute @workgroup_size(8, 8)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let photo = group.z / p.heads;
    let head = group.z % p.heads;
    let k_start = (p.heads + head) * p.size;
    let v_start = k_start + p.heads * p.size;

    var total0 = vec4(0.0);
    var total1 = vec4(0.0);
    var total2 = vec4(0.0);
    var total3 = vec4(0.0);
    for (var block = 0u; block < p.tokens; block += BLOCK) {
        for (var i = index; i < 256u; i += 64u) {
            let token = block + i / 8u;
            let at = (photo * p.tokens + token) * p.pitch;
            let k_channel = vec4(group.y * BLOCK + 4u * (i % 8u)) + vec4(0u, 1u, 2u, 3u);
            let v_channel = vec4(group.x * BLOCK + 4u * (i % 8u)) + vec4(0u, 1u, 2u, 3u);
            var key = vec4(0.0);
            var value = vec4(0.0);
            if token < p.tokens {
                let k = at + k_start + k_channel;
                let v = at + v_start + v_channel;
                key = phi(vec4(qkv[k.x], qkv[k.y], qkv[k.z], qkv[k.w]));
                value = vec4(qkv[v.x], qkv[v.y], qkv[v.z], qkv[v.w]);
            }
            keys[i] = select(vec4(0.0), key, k_channel < vec4(p.size));
            let one = select(vec4(0.0), vec4(1.0), v_channel == vec4(p.size));
            values[i] = select(one, value, v_channel < vec4(p.size));
        }
        workgroupBarrier();
        var sum0 = vec4(0.0);
        var sum1 = vec4(0.0);
        var sum2 = vec4(0.0);
        var sum3 = vec4(0.0);
        for (var token = 0u; token < BLOCK; token++) {
            let key = keys[token * 8u + local.y];
            let value = values[token * 8u + local.x];
            sum0 = fma(vec4(key.x), value, sum0);
            sum1 = fma(vec4(key.y), value, sum1);
            sum2 = fma(vec4(key.z), value, sum2);
            sum3 = fma(vec4(key.w), value, sum3);
        }
        total0 += sum0;
        total1 += sum1;
        total2 += sum2;
        total3 += sum3;
        workgroupBarrier();
    }
    let column = group.x * 8u + local.x;
    let row = group.y * BLOCK + local.y * 4u;
    let at = (group.z * p.size + row) * p.columns4 + column;
    if column < p.columns4 {
        if row < p.size {
            sums[at] = total0;
        }
        if row + 1u < p.size {
            sums[at + p.columns4] = total1;
        }
        if row + 2u < p.size {
            sums[at + 2u * p.columns4] = total2;
        }
        if row + 3u < p.size {
            sums[at + 3u * p.columns4] = total3;
        }
    }
}
