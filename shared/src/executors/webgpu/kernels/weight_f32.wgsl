
@group(0) @binding(5) var<storage, read> weight: array<vec4<f32>>;

fn weights(output: u32, k: u32) -> Right {
    return weight[output * p.inputs4 + k];
}

fn scaled(sum: Sum, row: u32, column: u32) -> vec4<f32> {
    return sum;
}
