
// x and weight are int8, four signed bytes a word; products are exact and summed in i32, which 130,000 inputs do not fill.
alias Left = u32;
alias Right = u32;
alias Sum = vec4<i32>;

// Rows as quantize_rows.wgsl makes them: the values, then the scale.
@group(0) @binding(4) var<storage, read> x: array<u32>;
@group(0) @binding(5) var<storage, read> weight: array<u32>;
@group(0) @binding(6) var<storage, read> scales: array<vec4<f32>>;

fn inputs(row: u32, k: u32) -> Left {
    return x[row * p.pitch + k];
}

fn weights(output: u32, k: u32) -> Right {
    return weight[output * p.inputs4 + k];
}

fn multiply(sum: Sum, w0: Right, w1: Right, w2: Right, w3: Right, x: Left) -> Sum {
    return sum + vec4(dot4I8Packed(w0, x), dot4I8Packed(w1, x), dot4I8Packed(w2, x), dot4I8Packed(w3, x));
}

fn scaled(sum: Sum, row: u32, column: u32) -> vec4<f32> {
    let scale = bitcast<f32>(x[row * p.pitch + p.inputs4]);
    return vec4<f32>(sum) * scale * scales[column];
}
