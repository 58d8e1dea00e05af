
@group(0) @binding(5) var<storage, read> weight: array<vec4<f32>>;

fn weights(at: u32) -> vec4<f32> {
    return weight[at];
}

fn scaled(sum: vec4<f32>, column: u32) -> vec4<f32> {
    return sum;
}
