use super::*;

/// A memory of 6 slots in 2 columns, into which keys 1, 2, .. were written along one axis.
fn memory(num_tokens: i64) -> KnnMemory {
    let mut memory = KnnMemory::empty([1, 1, 6, 1], Device::Cpu);
    for token in 1..=num_tokens {
        let key = Tensor::full([1, 1, 1, 1], token as f64, (Kind::Float, Device::Cpu));
        memory = memory.append(&key, &(&key * 10.));
    }
    memory
}

fn retrieved(memory: &KnnMemory, query: f32) -> (Vec<f64>, Vec<f64>) {
    let found = memory.retrieve(&Tensor::from_slice(&[query]).view([1, 1, 1, 1]), 2);
    let list = |x: Tensor| Vec::<f64>::try_from(x.view(-1).to_kind(Kind::Double)).unwrap();
    (list(found.keys), list(found.values))
}

#[test]
fn the_best_of_each_column_is_found() {
    // Slots 0 .. 6 hold tokens 1 .. 6; columns are 1, 3, 5 and 2, 4, 6.
    assert_eq!(retrieved(&memory(6), 1.), (vec![5., 6.], vec![50., 60.]));
    assert_eq!(retrieved(&memory(6), -1.), (vec![1., 2.], vec![10., 20.]));
}

#[test]
fn the_oldest_are_overwritten() {
    // Tokens 7 and 8 lie where 1 and 2 were.
    assert_eq!(retrieved(&memory(8), 1.).0, [7., 8.]);
    assert_eq!(retrieved(&memory(8), -1.).0, [3., 4.]);
}

#[test]
fn empty_slots_give_zeros() {
    assert_eq!(retrieved(&memory(0), 1.).0, [0., 0.]);
    assert_eq!(retrieved(&memory(1), -1.), (vec![1., 0.], vec![10., 0.]));
    let reset = memory(6).reset_rows(&Tensor::from_slice(&[true]));
    assert_eq!(retrieved(&reset, 1.).0, [0., 0.]);
}

/// Rows that were reset at different times write to slots of their own.
#[test]
fn rows_are_independent() {
    let options = (Kind::Float, Device::Cpu);
    let block = |seed| {
        tch::manual_seed(seed);
        Tensor::randn([2, 1, 4, 3], options)
    };
    let both = KnnMemory::empty([2, 1, 8, 3], Device::Cpu).append(&block(1), &block(2));
    let before = both.keys.copy();
    let reset = both.reset_rows(&Tensor::from_slice(&[false, true]));
    let both_after = reset.append(&block(3), &block(4));
    assert_eq!(both.keys, before, "a memory is a value");
    let both = both_after;
    let alone = KnnMemory::empty([1, 1, 8, 3], Device::Cpu)
        .append(&block(3).narrow(0, 1, 1), &block(4).narrow(0, 1, 1));
    let queries = block(5);
    let (of_both, of_alone) = (both.retrieve(&queries, 4), alone.retrieve(&queries.narrow(0, 1, 1), 4));
    assert_eq!(of_both.values.narrow(0, 1, 1), of_alone.values);
}

/// A search in pieces finds what a search at once finds.
#[test]
fn pieces_do_not_matter() {
    tch::manual_seed(1);
    let options = (Kind::Float, Device::Cpu);
    let (len, capacity, num_neighbours) = (512, 1 << 16, 128);
    let keys = Tensor::randn([1, 1, capacity, 2], options);
    let memory = KnnMemory::empty([1, 1, capacity, 2], Device::Cpu).append(&keys, &keys);
    let queries = Tensor::randn([1, 1, len, 2], options);
    assert!(len * capacity > MAX_SCORES, "the search needs pieces");
    let scores = queries.matmul(&keys.transpose(-2, -1)).unflatten(-1, [-1, num_neighbours]);
    let best = scores.max_dim(-2, false).0;
    let found = memory.retrieve(&queries, num_neighbours);
    let products = (found.keys * queries.unsqueeze(-2)).sum_dim_intlist(-1, false, Kind::Float);
    assert!((products - best).abs().max().double_value(&[]) < 1e-5);
}
