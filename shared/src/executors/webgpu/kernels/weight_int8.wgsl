
// Four signed bytes per word, the first input in the lowest.
@group(0) @binding(5) var<storage, read> weight: array<u32>;
// One scale per output channel, applied once to the whole sum.
@group(0) @binding(6) var<storage, read> scales: array<vec4<f32>>;

fn weights(output: u32, k: u32) -> Right {
    // Not `unpack4xI8`, which is a language extension: the arithmetic shift to the right extends the sign.
    let word = vec4(bitcast<i32>(weight[output * p.inputs4 + k]));
    return vec4<f32>((word << vec4(24u, 16u, 8u, 0u)) >> vec4(24u));
}

fn scaled(sum: Sum, row: u32, column: u32) -> vec4<f32> {
    return sum * scales[column];
}
