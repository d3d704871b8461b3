//! Prints what the demo says before and after the calls.

use super::{
    stage::{FAILING, MODEL, PROVIDER, Stage},
    tally::Tally,
};

/// What is about to be seen.
pub(super) fn opening(stage: &Stage) -> String {
    format!(
        "Rota serves gRPC on {}. Model `{MODEL}` is balanced over three keys of provider\n\
         `{PROVIDER}`: a server in this process that speaks OpenAI's protocol and will refuse a key.\n",
        stage.address
    )
}

/// What happened, in three lines.
pub(super) fn happened(tally: &Tally) -> String {
    let failed = match &tally.first_failure {
        None => "none failed".to_owned(),
        Some(first) => format!("{} FAILED, the first with {first}", tally.failed),
    };
    let shares: Vec<_> = tally
        .members
        .iter()
        .map(|member| format!("{} {} ({:.0} %)", member.name, member.served, tally.share(member)))
        .collect();
    format!(
        "\n{} calls in {:.1} s, {} unary and {} streamed: {failed}.\nServed by {}.\n{}\n",
        tally.made(),
        tally.elapsed().as_secs_f64(),
        tally.unary,
        tally.streamed,
        shares.join(", "),
        cooldown(tally),
    )
}

/// What became of the failing key.
fn cooldown(tally: &Tally) -> String {
    let failing = tally.members.iter().find(|member| member.name == FAILING);
    let (served, refused) = failing.map_or((0, 0), |member| (member.served, member.refused));
    let times = match refused {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        _ => format!("{refused} times"),
    };
    let calls = if tally.moved_on == 1 { "1 call".to_owned() } else { format!("{} calls", tally.moved_on) };
    let answered = format!("{FAILING} answered 429 {times}, {calls} moved on.");
    let Some(rest) = &tally.rest else { return format!("{answered} It was not seen to cool down.") };
    let meanwhile = match rest.hits {
        0 => "without a call".to_owned(),
        1 => "with 1 call".to_owned(),
        hits => format!("with {hits} calls"),
    };
    match &rest.ended {
        None => format!("{answered} It is cooling down, so far {meanwhile}."),
        Some(ended) => format!(
            "{answered} It cooled {:.1} s {meanwhile}, came back and served {}.",
            ended.after.as_secs_f64(),
            served - ended.served,
        ),
    }
}

/// Commands to go on with. The token ends with the demo.
pub(super) fn go_on(stage: &Stage) -> String {
    let (address, token) = (stage.address, &stage.token);
    let call = format!(
        r#"-H 'authorization: Bearer {token}' -d '{{"key":{{"provider":"{PROVIDER}","model":"{MODEL}"}},"messages":[{{"role":"user","content":"Who is on duty?"}}]}}'"#
    );
    format!(
        "Go on with these (the token is this demo's own and ends with it):\n\n\
         grpcurl -plaintext {address} list\n\n\
         grpcurl -plaintext {call} {address} rota.v1.InvokeService/InvokeLlm\n\n\
         buf curl --protocol grpc --http2-prior-knowledge {call} http://{address}/rota.v1.InvokeService/InvokeLlm\n"
    )
}
