//! Layers and whole models: outputs, carried state and gradients over segments of which some start a document.

use anyhow::{Context, Result};
use brt_data::SegmentBatch;
use brt_lm::{
    CellLayout, Gate, LanguageModel, Layer, LayerState, Mode, ModelConfig, ModelState, RecurrenceConfig,
};
use brt_ops::{Windows, loss};
use brt_txl::KvCache;
use tch::{Kind, Tensor};

use crate::{config::config, golden::Golden};

/// `[B, N, E]` → `[n, B, W, E]`.
fn to_blocks(x: &Tensor, window_len: i64) -> Tensor {
    x.unflatten(1, [-1, window_len]).transpose(0, 1)
}

/// `[n, B, W, E]` → `[B, N, E]`.
fn from_blocks(x: &Tensor) -> Tensor {
    x.transpose(0, 1).flatten(1, 2)
}

/// Reads the state of a layer, caches `[B, W, H, D]` in the files, over that of rows about to start.
fn read_state(golden: &Golden, prefix: &str, start: LayerState) -> Result<LayerState> {
    let has = |name: &str| golden.has(&format!("{prefix}{name}"));
    let read = |name: &str| golden.tensor(&format!("{prefix}{name}"));
    let cache = if has("keys") {
        KvCache { keys: read("keys")?.transpose(1, 2), values: read("values")?.transpose(1, 2) }
    } else {
        start.cache
    };
    let recurrent = if has("recurrent_state") { Some(read("recurrent_state")?) } else { start.recurrent };
    Ok(LayerState { cache, recurrent, memory: None })
}

pub(crate) fn check_state(golden: &Golden, prefix: &str, state: &LayerState) -> Result<()> {
    if golden.has(&format!("{prefix}keys")) {
        golden.check(&format!("{prefix}keys"), &state.cache.keys.transpose(1, 2))?;
        golden.check(&format!("{prefix}values"), &state.cache.values.transpose(1, 2))?;
    }
    match &state.recurrent {
        Some(recurrent) => golden.check(&format!("{prefix}recurrent_state"), recurrent),
        None => Ok(()),
    }
}

/// One layer: all segments with our own state carried, then the gradients of segment 1 from the file's state.
pub(crate) fn check_layer(golden: &Golden) -> Result<()> {
    let mut config = config(golden)?;
    if golden.config["cross_attention"].as_bool() == Some(true) {
        // An ordinary layer under feedback: a recurrent one above it gives it its second queries.
        let recurrence = RecurrenceConfig {
            feedback: true,
            ..RecurrenceConfig::new(vec![1], Gate::Fixed, CellLayout::Skip, golden.int("num_states")?)
        };
        config = ModelConfig { num_layers: 2, recurrence: Some(recurrence), ..config };
    }
    let model = LanguageModel::new(config, 1, golden.device)?;
    golden.load_parameters("param.", "transformer0/", &model)?;
    let check = LayerCheck { golden, layer: &model.layers()[0], model: &model };

    let mut state = check.start()?;
    for segment in 0..golden.int("num_segments")? {
        let (ys, after) = check.run(segment, &golden.tensor(&format!("seg{segment}.in.x"))?, &state, None)?;
        golden.check(&format!("seg{segment}.out.y"), &ys)?;
        check_state(golden, &format!("seg{segment}.state."), &after)?;
        check.states_by_block(segment, &state)?;
        state = after;
    }
    check.gradients()
}

struct LayerCheck<'a> {
    golden: &'a Golden,
    layer: &'a Layer,
    model: &'a LanguageModel,
}

impl LayerCheck<'_> {
    fn start(&self) -> Result<LayerState> {
        let batch = self.golden.int("batch")?;
        self.model.initial_state(batch).layers.into_iter().next().context("a model has a layer")
    }

    fn reset(&self, segment: i64, before: &LayerState) -> Result<LayerState> {
        let starts = self.golden.tensor(&format!("seg{segment}.in.start_of_sequence"))?;
        Ok(self.layer.reset_rows(before, &starts))
    }

    /// Reads the keys and values of states that an ordinary layer attends to, `[B, S, H, D]` in the file.
    fn cross(&self, segment: i64) -> Result<Option<[Tensor; 2]>> {
        let name = |kind: &str| format!("seg{segment}.in.cross_{kind}");
        if !self.golden.has(&name("keys")) {
            return Ok(None);
        }
        Ok(Some([self.golden.tensor(&name("keys"))?, self.golden.tensor(&name("values"))?]))
    }

    /// Returns output and state of a segment. `cross` replaces the file's keys and values of states.
    fn run(
        &self,
        segment: i64,
        x: &Tensor,
        before: &LayerState,
        cross: Option<&[Tensor; 2]>,
    ) -> Result<(Tensor, LayerState)> {
        let config = self.model.config();
        let before = self.reset(segment, before)?;
        let of_file = self.cross(segment)?;
        let states = cross.or(of_file.as_ref()).map(|[keys, values]| {
            let heads_first = |x: &Tensor| x.transpose(1, 2).unsqueeze(0); // [1, B, H, S, D]
            Windows::alone(heads_first(keys), heads_first(values))
        });
        let tables = self.model.tables();
        let xs = to_blocks(x, config.window_len);
        let (ys, after) = self.layer.forward(&xs, &before, states.as_ref(), tables, Mode::Eval);
        Ok((from_blocks(&ys), after))
    }

    /// Compares the states after every block, and what tokens could read of them, where the file has them.
    fn states_by_block(&self, segment: i64, before: &LayerState) -> Result<()> {
        let Some(cell) = self.layer.cell() else { return Ok(()) };
        let before = self.reset(segment, before)?;
        let x = self.golden.tensor(&format!("seg{segment}.in.x"))?;
        let tokens = self.layer.tokens();
        let projected = tokens.project(&to_blocks(&x, self.model.config().window_len), Mode::Eval);
        let windows = tokens.windows(&projected, &before.cache);
        let scan = cell.scan(before.recurrent.as_ref().context("a recurrent state")?, &windows);
        let prefix = format!("seg{segment}.debug.");
        for name in self.golden.names(&prefix).map(str::to_string).collect::<Vec<_>>() {
            let got = match name.strip_prefix("window").and_then(|rest| rest.split_once('.')) {
                None if name == "window_states" => Tensor::stack(&scan.states, 0),
                Some((block, "recurrent_keys")) => scan.keys.get(block.parse()?).transpose(1, 2),
                Some((block, "recurrent_values")) => scan.values.get(block.parse()?).transpose(1, 2),
                _ => continue,
            };
            self.golden.check(&format!("{prefix}{name}"), &got)?;
        }
        Ok(())
    }

    /// Compares the gradients of `sum(y · dy)` of segment 1.
    fn gradients(&self) -> Result<()> {
        let golden = self.golden;
        let x = golden.tensor("seg1.in.x")?.set_requires_grad(true);
        let cross = self.cross(1)?.map(|cross| cross.map(|x| x.set_requires_grad(true)));
        let before = read_state(golden, "seg0.state.", self.start()?)?;
        let (ys, _) = self.run(1, &x, &before, cross.as_ref())?;
        (ys * golden.tensor("seg1.in.dy")?).sum(Kind::Float).backward();
        golden.check("grad.seg1.in.x", &x.grad())?;
        if let Some([keys, values]) = &cross {
            golden.check("grad.seg1.in.cross_keys", &keys.grad())?;
            golden.check("grad.seg1.in.cross_values", &values.grad())?;
        }
        golden.check_gradients("grad.", "transformer0/", self.model)
    }
}

/// A whole model: targets, masks, logits, losses and state of all segments, gradients of the mean loss of segment 1.
pub(crate) fn check_model(golden: &Golden) -> Result<()> {
    let model = LanguageModel::new(config(golden)?, 1, golden.device)?;
    golden.load_parameters("param.", "", &model)?;
    let mut state = model.initial_state(golden.int("batch")?);
    for segment in 0..golden.int("num_segments")? {
        let prefix = format!("seg{segment}.");
        let input = Segment::read(golden, &prefix)?;
        let (logits, after) = input.run(&model, &state);
        let (targets, mask) = (&input.targets, &input.mask);
        golden.check(&format!("{prefix}out.targets"), targets)?;
        golden.check(&format!("{prefix}out.loss_mask"), &mask.to_kind(Kind::Bool))?;
        golden.check(&format!("{prefix}out.loss_count"), &mask.sum(Kind::Float).view(1))?;
        golden.check(&format!("{prefix}out.logits"), &logits)?;
        let token_loss = loss::cross_entropy(&logits, targets, &mask.ones_like());
        golden.check(&format!("{prefix}out.token_loss"), &token_loss)?;
        golden.check(&format!("{prefix}out.loss_sum"), &input.loss(&logits).view(1))?;
        for (idx, layer) in after.layers.iter().enumerate() {
            check_state(golden, &format!("{prefix}state.layer{idx}."), layer)?;
        }
        state = after;
    }
    if golden.names("grad.").next().is_none() {
        return Ok(());
    }
    let start = model.initial_state(golden.int("batch")?);
    let layers = start.layers.into_iter().enumerate();
    let layers = layers
        .map(|(idx, layer)| read_state(golden, &format!("seg0.state.layer{idx}."), layer))
        .collect::<Result<_>>()?;
    let input = Segment::read(golden, "seg1.")?;
    let (logits, _) = input.run(&model, &ModelState { layers });
    (input.loss(&logits) / golden.tensor("seg1.out.loss_count")?).sum(Kind::Float).backward();
    golden.check_gradients("grad.", "", &model)
}

/// Tokens of a segment with the targets and the mask that brt-data makes of them.
pub(crate) struct Segment {
    tokens: Tensor,             // [B, N] int64
    start_of_sequence: Tensor,  // [B] bool
    pub(crate) targets: Tensor, // [B, N] int64
    pub(crate) mask: Tensor,    // [B, N] float
}

impl Segment {
    pub(crate) fn read(golden: &Golden, prefix: &str) -> Result<Self> {
        let tokens = golden.tensor(&format!("{prefix}in.tokens"))?;
        let starts_name = format!("{prefix}in.start_of_sequence");
        let start_of_sequence = match golden.has(&starts_name) {
            true => golden.tensor(&starts_name)?,
            false => Tensor::ones([tokens.size()[0]], (Kind::Bool, golden.device)),
        };
        let rows: Vec<Vec<i64>> = (&tokens).try_into()?;
        let rows: Vec<Vec<u16>> = rows.iter().map(|row| row.iter().map(|&t| t as u16).collect()).collect();
        let rows: Vec<&[u16]> = rows.iter().map(Vec::as_slice).collect();
        let starts: Vec<bool> = (&start_of_sequence).try_into()?;
        let mut batch = SegmentBatch::of_segments(&rows, &starts, tokens.size()[1] as usize);
        let mask_name = format!("{prefix}in.loss_mask");
        if golden.has(&mask_name) {
            let mask = golden.tensor(&mask_name)?;
            batch.restrict(&Vec::<bool>::try_from(mask.reshape(-1))?);
        }
        let targets = Tensor::from_slice(&batch.targets).view_as(&tokens).to_device(golden.device);
        let mask = Tensor::from_slice(&batch.loss_mask).view_as(&tokens).to_device(golden.device);
        Ok(Self { tokens, start_of_sequence, targets, mask })
    }

    pub(crate) fn run(&self, model: &LanguageModel, before: &ModelState) -> (Tensor, ModelState) {
        model.forward(&self.tokens, &model.reset_rows(before, &self.start_of_sequence), Mode::Eval)
    }

    /// Returns the sum of the losses of all scored tokens.
    pub(crate) fn loss(&self, logits: &Tensor) -> Tensor {
        loss::cross_entropy(logits, &self.targets, &self.mask).sum(Kind::Float)
    }
}
