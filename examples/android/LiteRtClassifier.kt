// Bitmap -> (label, probability), best first, by LiteRT 2 on the GPU, or on the CPU without one

import android.content.Context
import android.graphics.Bitmap
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.LiteRtException

/** For files of `--input-type float32`: in Kotlin, CompiledModel has no uint8 tensors. */
class LiteRtClassifier(context: Context, private val model: ModelFile) : AutoCloseable {
    // Without a GPU, or if it does not take every operation, GPU throws. Options(GPU, CPU) would
    // not, nor say which of them it uses.
    private val onGpu = try {
        compile(context, Accelerator.GPU)
    } catch (error: LiteRtException) {
        null
    }
    private val compiled = onGpu ?: compile(context, Accelerator.CPU)
    private val inputs = compiled.createInputBuffers()  // the one input, `images`
    private val outputs = compiled.createOutputBuffers()  // the one output, `probabilities`

    /** For logs. */
    val usesGpu = onGpu != null

    private fun compile(context: Context, accelerator: Accelerator) =
        CompiledModel.create(context.assets, "model.tflite", CompiledModel.Options(accelerator))

    fun classify(image: Bitmap): List<Pair<String, Float>> {
        inputs[0].writeFloat(model.pixels(image))
        compiled.run(inputs, outputs)
        val probabilities = outputs[0].readFloat()
        return model.labels.zip(probabilities.asList()).sortedByDescending { it.second }
    }

    override fun close() {
        (inputs + outputs).forEach { it.close() }
        compiled.close()
    }
}
