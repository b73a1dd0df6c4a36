// assets/model.tflite -> its bytes, its labels, and what it wants to see of an image

import android.content.Context
import android.graphics.Bitmap
import android.graphics.RectF
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.nio.channels.FileChannel
import kotlin.math.min
import kotlin.math.roundToInt
import org.json.JSONObject
import org.tensorflow.lite.support.metadata.MetadataExtractor

class ModelFile(context: Context) {
    val bytes: ByteBuffer = context.assets.openFd("model.tflite").use {
        FileInputStream(it.fileDescriptor).channel
            .map(FileChannel.MapMode.READ_ONLY, it.startOffset, it.declaredLength)
    }
    private val attached = MetadataExtractor(bytes)
    val labels = attached.getAssociatedFile("labels.txt").bufferedReader().readLines()
    private val rule =
        JSONObject(attached.getAssociatedFile("preprocessing.json").bufferedReader().readText())
    private val height = rule.getJSONArray("image_size").getInt(0)
    private val width = rule.getJSONArray("image_size").getInt(1)

    /** The part of an upright image that the model sees, in fractions of the image's sides. */
    fun part(image: Bitmap): RectF {
        val crop = rule.getDouble("crop")
        var wide = crop
        var high = crop
        if (rule.getString("resize") == "crop") {
            val wanted = width.toDouble() / height
            val given = image.width.toDouble() / image.height
            wide = crop * min(1.0, wanted / given)
            high = crop * min(1.0, given / wanted)
        }
        val left = ((1 - wide) / 2).toFloat()
        val top = ((1 - high) / 2).toFloat()
        return RectF(left, top, 1 - left, 1 - top)
    }

    /** An upright image -> the model's input: red, green, blue of each pixel, row by row. */
    fun pixels(image: Bitmap): ByteBuffer {
        val part = part(image)
        var cut = Bitmap.createBitmap(
            image,
            (part.left * image.width).roundToInt(),
            (part.top * image.height).roundToInt(),
            (part.width() * image.width).roundToInt(),
            (part.height() * image.height).roundToInt(),
        )
        // Halving takes means of 2x2 pixels; one large step would take single pixels.
        while (cut.width >= 2 * width && cut.height >= 2 * height) {
            cut = Bitmap.createScaledBitmap(cut, cut.width / 2, cut.height / 2, true)
        }
        val colours = IntArray(width * height)
        Bitmap.createScaledBitmap(cut, width, height, true)
            .getPixels(colours, 0, width, 0, 0, width, height)
        val buffer = ByteBuffer.allocateDirect(3 * colours.size)
        for (colour in colours) {
            buffer.put((colour shr 16).toByte()).put((colour shr 8).toByte()).put(colour.toByte())
        }
        buffer.rewind()
        return buffer
    }
}
